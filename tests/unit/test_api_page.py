"""The page of the API says what the comments of protos say."""

from __future__ import annotations

from google.protobuf import text_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from tests.bed.commands.api_page import page

FILE = text_format.Parse(
    """
    name: "ocigrpc/v1/door.proto"
    service {
        name: "Doors"
        method {
            name: "Open"
            input_type: ".ocigrpc.v1.OpenRequest"
            output_type: ".ocigrpc.v1.Door"
        }
    }
    message_type {
        name: "OpenRequest"
        field { name: "keys" type: TYPE_STRING label: LABEL_REPEATED }
    }
    message_type { name: "Door" }
    enum_type { name: "Wood" value { name: "WOOD_OAK" number: 1 } }
    source_code_info {
        location { path: [12] leading_comments: " Errors:\\n   GONE  no\\n         door\\n" }
        location { path: [6, 0, 2, 0] leading_comments: " Opens it. Creaks.\\n\\n Twice.\\n" }
        location { path: [4, 0, 2, 0] leading_comments: " One|more\\n keys.\\n" }
        location { path: [5, 0, 2, 0] leading_comments: " Hard.\\n" }
    }
    """,
    FileDescriptorProto(),
)


def test_a_call_is_listed_with_its_first_sentence_and_described_with_all_of_them() -> None:
    text = page([FILE])
    assert "| [Open](#rpc-open) | Opens it. |\n" in text
    assert "### rpc Open\n\nOpens it. Creaks.\n\nTwice.\n\nRequest: `OpenRequest`\n\n" in text
    assert "\n\nResponse: [Door](#door)\n" in text


def test_fields_and_values_are_rows_whose_comments_are_one_line() -> None:
    text = page([FILE])
    assert "\n| `keys` | list of string | One\\|more keys. |\n" in text
    assert "\n| `WOOD_OAK` | 1 | Hard. |\n" in text


def test_a_request_is_described_once_with_its_call_and_other_messages_by_themselves() -> None:
    text = page([FILE])
    assert "### OpenRequest" not in text
    assert "### Door\n\nNo fields.\n" in text


def test_indented_lines_keep_their_form() -> None:
    text = page([FILE])
    assert "Errors:\n\n```text\nGONE  no\n      door\n```\n" in text
