"""A picture of a command's output holds all of it, as text."""

from __future__ import annotations

from tests.bed.commands.picture import lines, picture, steady

TEXT = "$ scripts/demo\ncall     state    ms\n\nPause    PAUSED   1.5\nStop <&> STOPPED  2\n"


def test_the_lines_of_a_picture_are_the_command_and_its_output() -> None:
    svg = picture("scripts/demo", TEXT)
    assert lines(svg) == [line for line in TEXT.splitlines() if line]


def test_a_state_that_stands_alone_has_a_color() -> None:
    assert '<tspan fill="#ffa657">PAUSED</tspan>' in picture("scripts/demo", TEXT)


def test_a_line_has_the_colour_that_it_has_on_a_terminal() -> None:
    svg = picture("ps", "$ ps\n\x1b[33mweb  Up (Paused)\x1b[0m\n")
    assert lines(svg) == ["$ ps", "web  Up (Paused)"]
    assert 'fill="#ffa657"' in svg.splitlines()[-2]


def test_two_runs_differ_in_numbers_versions_and_widths_alone() -> None:
    one = "runc 1.1.5+ds1-1  id demo, pid 4711   12.5"
    assert steady(one) == steady("runc 1.3   id demo, pid 9  7.0") == "runc 0 id demo, pid 0 0"
    assert steady(one) != steady(one.replace("demo", "other"))
