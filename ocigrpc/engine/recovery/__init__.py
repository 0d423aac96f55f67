"""After a start: find what there is, finish or undo what was cut off."""
