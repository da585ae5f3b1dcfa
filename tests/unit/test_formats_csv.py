import numpy as np
import pytest

from service.api.formats.csv import read
from service.domain.encoders import BooleanEncoder, CategoricalEncoder, NumericEncoder
from service.domain.errors import InvalidRows, MalformedRequest
from service.inference.rows import MAX_ROWS
from tests.formats import MIXED, NUMBERS, served

SERVED = served(NUMBERS)
CODES = served((CategoricalEncoder("zip", ("00202", "1", "NA"), gaps=True), NumericEncoder("size", gaps=True)))


def zips(body: str) -> list[str]:
    """The category of every row, by the column that it is encoded to."""
    encoded = read(body.encode(), CODES).encoded()[:, :4]
    names = ["00202", "1", "NA", "gap"]
    return [names[row.index(1)] if 1 in row else "unseen" for row in encoded.tolist()]


def sizes(*cells: str) -> list[float | None]:
    encoded = read("\n".join(["zip,size", *(f"1,{cell}" for cell in cells)]).encode(), CODES).encoded()[:, 4:]
    return [None if gap else value for value, gap in encoded.tolist()]


@pytest.mark.parametrize(
    "body",
    [
        b"a,b,c\n1,2,3\n4,5,6\n",
        b"\xef\xbb\xbfc,a,b\r\n3,1,2\r\n\r\n6,4,5",
        b'"a","b",c\n"1", 2 ,3\n4,5.0,6e0',
        b"a,b,c\r1,2,3\r4,5,6\r",
        b"\n\na,b,c\n1,2,3\n\n\n4,5,6\n\n",
    ],
)
def test_columns_are_found_by_name(body: bytes) -> None:
    assert read(body, SERVED).encoded().tolist() == [[1, 2, 3], [4, 5, 6]]


def test_columns_are_in_order_where_there_is_no_line_of_names() -> None:
    assert read(b"1,2,3\n4,5,6", SERVED, header=False).encoded().tolist() == [[1, 2, 3], [4, 5, 6]]


def test_codes_stay_text() -> None:
    assert zips("zip,size\n00202,1\n202,1\n1,1\n1.0,1\n") == ["00202", "unseen", "1", "unseen"]


def test_text_keeps_its_commas_quotes_and_line_breaks() -> None:
    model = served((CategoricalEncoder("note", ('a, "b"\r\nc', " d "), gaps=True), NumericEncoder("x")))
    body = 'note,x\r\n"a, ""b""\r\nc",1\r\n d ,2\r\n"",3\r\n'
    assert read(body.encode(), model).encoded().tolist() == [[1, 0, 0, 1], [0, 1, 0, 2], [0, 0, 1, 3]]


def test_gaps_are_empty_cells_and_the_usual_words() -> None:
    assert zips('zip,size\n,1\n"",1\nN/A,1\n ? ,1\nnull,1\n') == ["gap"] * 5
    assert sizes("", " ", "?", "NaN", "nan", "NA", "unknown", "2", '""') == [None] * 7 + [2, None]


def test_word_for_a_gap_may_be_a_category() -> None:
    assert zips("zip,size\nNA,1\n") == ["NA"]


def test_word_that_stood_for_a_gap_in_training_is_one() -> None:
    model = served((NumericEncoder("x", gaps=True, fill=9.0, missing_tokens=("-999", "none")),))
    body = b"x\n-999\n-999.0\nnone\n1\n"
    assert read(body, model).encoded().tolist() == [[9, 1], [9, 1], [9, 1], [1, 0]]


def test_booleans_and_numbered_categories_are_read_by_their_cells() -> None:
    model = served(
        (
            BooleanEncoder("flag"),
            CategoricalEncoder("floor", (1, 2.5), holds="number"),
            CategoricalEncoder("member", (True, False), holds="boolean"),
        )
    )
    body = b"flag,floor,member\ntrue,1,True\n 0 ,2.50,FALSE\n1,1.0, false\n"
    assert read(body, model).encoded().tolist() == [[1, 1, 0, 1, 0], [0, 0, 1, 0, 1], [1, 1, 0, 0, 1]]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("a,b,c\n1,2,3\n1,x,3", "row 1, column 'b': must be a number; got 'x'"),
        ("a,b,c\n1,,3", "row 0, column 'b': is null, and training saw no gaps"),
        ("a,b,c\n1,inf,3", "row 0, column 'b': must lie within"),
        ("a,b,c\n1,1e39,3", "row 0, column 'b': must lie within"),
        ("a,b,c\n1,0x1F,3", "row 0, column 'b': must be a number; got '0x1F'"),
        ("a,b,c\n1,1_000,3", "row 0, column 'b': must be a number; got '1_000'"),
        ("a,b,c\n1,true,3", "row 0, column 'b': must be a number; got 'true'"),
        ("a,b,c\n1,2,3\n\n4,5", "row 1 has 2 cell(s), separated by commas; it must have 3"),
        ("a,b,c\n1,2,3,4", "row 0 has 4 cell(s)"),
        ("a,b,c", "has no rows"),
        ("a,b,c\n\n\r\n", "has no rows"),
        ("a,b,c\n\n \n", "row 0 has 1 cell(s)"),
        ("a,b\n1,2", "the table lacks the column(s) 'c'"),
        ("a,b,c,id\n1,2,3,4", "has column(s) that the model does not take: 'id'; leave them out"),
        (",a,b,c\n0,1,2,3", "does not take: ''"),
        ("a;b;c\n1;2;3", "Cells are separated by commas"),
        ("1,2,3\n4,5,6", "text/csv; header=absent"),
        ("a,b,c,b\n1,2,3,4", "has two columns 'b'"),
    ],
)
def test_table_that_the_model_cannot_take_is_refused_with_the_reason(body: str, words: str) -> None:
    with pytest.raises(InvalidRows) as caught:
        read(body.encode(), SERVED)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf \n", "is empty"),
        (b'a,b,"c\n1,2,3', "the first line cannot be read as names"),
        (b'a,b,c\n1,2,3\n1,2,"3\n4,5,6', "row 1 opens a quote that is not closed"),
        (b'a,b,c\n1,"2"x",3', "row 0 is no CSV"),
        (b"a,b,c\n1,2,\x003", "holds a NUL at byte 10"),
        ("a,b,c\n1,2,3".encode("utf-16"), "holds a NUL"),
        (b"a,b,\xe4\n1,2,3", "is not UTF-8 at byte 4"),
        (b"a,b,c\n1,2,\xe4", "is not UTF-8 at byte 10"),
    ],
)
def test_body_that_is_no_csv_is_refused_with_the_reason(body: bytes, words: str) -> None:
    with pytest.raises(MalformedRequest) as caught:
        read(body, SERVED)
    assert words in str(caught.value)


def test_byte_that_is_no_text_is_named_in_a_column_of_text() -> None:
    with pytest.raises(MalformedRequest, match="is not UTF-8 at byte 11"):
        read(b"zip,size\n1,\xff\n", CODES)
    with pytest.raises(MalformedRequest, match="is not UTF-8 at byte 9"):
        read(b"zip,size\n\xff,1\n", CODES)


def test_target_is_left_out_and_said() -> None:
    checked = read(b"price,a,b,c\nwhatever,1,2,3\n", SERVED)
    assert checked.encoded().tolist() == [[1, 2, 3]]
    assert checked.warnings == ("column 'price' is what the model predicts, and was left out",)


def test_column_may_be_left_out_where_training_saw_gaps() -> None:
    assert read(b"weight\n2\n", served(MIXED)).encoded()[0, :3].tolist() == [30, 1, 2]


def test_unseen_categories_are_said_in_the_order_of_the_rows() -> None:
    checked = read(b"zip,size\n1,1\nx,1\n1,1\ny,1\n", CODES)
    assert [warning.split(":")[0] for warning in checked.warnings] == ["row 1, column 'zip'", "row 3, column 'zip'"]
    assert checked.unseen == {"zip": 2}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("block", [40, 41, 42, 43, 44, 97])
def test_where_blocks_end_changes_nothing(end: str, block: int) -> None:
    note = CategoricalEncoder("note", (f"x,{end}y", f'{end}"'), gaps=True)
    model = served((NumericEncoder("x"), note))
    cells = [f'"x,{end}y"', f'"{end}"""', '""']
    rows = [f"{place},{cells[place % 3]}" for place in range(50)]
    body = end.join(["x,note", *rows, ""]).encode()
    whole = read(body, model).encoded()
    assert whole[:, 0].tolist() == list(range(50))
    assert whole[:3, 1:].tolist() == np.eye(3).tolist()
    np.testing.assert_array_equal(whole, read(body, model, block_bytes=block).encoded())


def test_faulty_row_of_a_later_block_is_named() -> None:
    rows = "1,2,3\n" * 50
    for bad, words in {"1,2": "row 50 has 2 cell(s)", "1,2,x": "row 50, column 'c'"}.items():
        with pytest.raises(InvalidRows) as caught:
            read(f"a,b,c\n{rows}{bad}\n{rows}".encode(), SERVED, block_bytes=64)
        assert words in str(caught.value)


def test_row_that_is_longer_than_a_block_is_refused() -> None:
    with pytest.raises(MalformedRequest, match="a row of more than 64 bytes"):
        read(b"a,b,c\n" + b"1," * 100 + b"3\n", SERVED, block_bytes=64)


def test_too_many_rows_are_sent_back() -> None:
    with pytest.raises(InvalidRows, match="at most 100,000"):
        read(b"a,b,c\n" + b"1,2,3\n" * (MAX_ROWS + 1), SERVED)


def test_too_many_different_texts_are_sent_back() -> None:
    body = "k,l,m\n" + "\n".join(f"a{row},b{row},c{row}" for row in range(70_000))
    model = served(tuple(CategoricalEncoder(name, ("x",)) for name in "klm"))
    with pytest.raises(InvalidRows, match="more than 200,000 different texts"):
        read(body.encode(), model)


def test_last_row_may_be_a_blank() -> None:
    model = served((CategoricalEncoder("note", ("x",), gaps=True),))
    assert read(b"note\nx\n \n", model).encoded().tolist() == [[1, 0], [0, 1]]
