import pyarrow as pa
import pyarrow.parquet as pq

from service.tables.parquet import GROUP_BYTES, MAX_CHUNKS, decode, encode, read_rows

MEGABYTE = 1 << 20


def test_page_of_very_long_texts_ends_early_and_goes_on_where_it_ended() -> None:
    texts = [f"{row:02}" + "x" * (MEGABYTE - 2) for row in range(40)]
    content = encode(pa.table({"text": texts, "number": range(40)}))
    first = read_rows(content, 0, 100)
    assert 1 <= len(first) == GROUP_BYTES // MEGABYTE
    assert [row["number"] for row in first + read_rows(content, len(first), 100)] == list(range(32))
    assert read_rows(content, 39, 1)[0]["text"] == texts[39]


def test_row_longer_than_a_page_is_a_page() -> None:
    wide = {f"c{place}": ["x" * MEGABYTE] * 2 for place in range(20)}
    assert len(read_rows(encode(pa.table(wide)), 0, 2)) == 1


def test_groups_are_small_where_a_column_is_heavy_and_few_where_columns_are_many() -> None:
    def rows_of_first_group(table: pa.Table) -> int:
        return int(pq.ParquetFile(pa.BufferReader(encode(table))).metadata.row_group(0).num_rows)

    long = pa.array(["x" * 10_000 + str(row) for row in range(5_000)])
    assert rows_of_first_group(pa.table({"text": long})) * 10_000 <= GROUP_BYTES
    repeated = pa.DictionaryArray.from_arrays(pa.array([0] * 5_000, pa.int32()), pa.array(["x" * 10_000]))
    assert rows_of_first_group(pa.table({"text": repeated})) * 10_000 <= GROUP_BYTES
    assert rows_of_first_group(pa.table({"number": range(100_000)})) == 65_536
    wide = pa.table({f"c{place}": range(1_000) for place in range(1_000)})
    assert rows_of_first_group(wide) * MAX_CHUNKS >= 1_000 * 1_000


def test_whole_numbers_beside_gaps_stay_what_they_are() -> None:
    table = decode(encode(pa.table({"small": [1, None], "large": [2**53 + 1, None]})))
    assert table.columns["small"].dtype == "float64"
    assert table.columns["large"].tolist() == [2**53 + 1, None]
