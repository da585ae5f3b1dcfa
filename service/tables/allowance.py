"""What an upload may hold: checked on what a file says of itself, and again on what was read."""

from dataclasses import dataclass

from service.tables.refusals import refused


@dataclass(frozen=True, slots=True)
class Allowance:
    """The bounds on a table of ``service.domain.limits.TableLimits``, without pydantic, which that module imports."""

    max_rows: int
    max_columns: int
    max_cells: int
    max_decoded_bytes: int
    max_categories: int

    def check_shape(self, rows: int, columns: int) -> None:
        """Refuse a table of too many rows, columns or cells.

        Raises:
            InvalidTable: names the first bound that it exceeds.
        """
        if columns > self.max_columns:
            raise refused(f"has {columns:,} columns; at most {self.max_columns:,} are allowed")
        if rows > self.max_rows:
            raise refused(f"has {rows:,} rows; at most {self.max_rows:,} are allowed. Send a part of them")
        if rows * columns > self.max_cells:
            raise refused(
                f"has {rows * columns:,} cells ({rows:,} rows of {columns:,} columns); at most {self.max_cells:,} are "
                "allowed. Send fewer rows or columns"
            )

    def check_decoded(self, size_bytes: int) -> None:
        """Refuse a table that takes too many bytes once it is read.

        Raises:
            InvalidTable: says how many are allowed.
        """
        if size_bytes > self.max_decoded_bytes:
            raise refused(
                f"holds {size_bytes:,} bytes of cells or more; at most {self.max_decoded_bytes:,} are allowed. "
                "Send fewer rows or columns"
            )
