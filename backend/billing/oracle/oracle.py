#!/usr/bin/env python3
"""Computes every amount of a usage export again, in another language, and compares to the last digit.

    oracle.py usage.jsonl price-books.json

usage.jsonl is the JSON lines export, price-books.json the answer of GET /api/v1/billing/price-books (one
page, or a list of all versions). Exit status 0: every amount and every total is exact. 1: something is
not, and standard error says what. Shares no code with the product; needs only Python's own library.
"""

import json
import sys
from decimal import ROUND_HALF_EVEN, Context, Decimal, Inexact, InvalidOperation

# A result that does not fit is an error, never rounded.
EXACT = Context(prec=400, rounding=ROUND_HALF_EVEN, traps=[Inexact, InvalidOperation])

# Smallest units in one pricing unit.
PRICING = {
    "cpu_used": ("cpu-nanoseconds", "Core-Seconds", Decimal(10) ** 9),
    "cpu_reserved": ("millicpu-nanoseconds", "Core-Seconds", Decimal(10) ** 12),
    "memory_used": ("byte-nanoseconds", "GB-Seconds", Decimal(10) ** 18),
    "memory_reserved": ("byte-nanoseconds", "GB-Seconds", Decimal(10) ** 18),
    **{
        f"network_{other}_{way}": ("bytes", "GB", Decimal(10) ** 9)
        for other in ("internet", "tenant", "cross", "host")
        for way in ("in", "out")
    },
    "block_read": ("bytes", "GB", Decimal(10) ** 9),
    "block_write": ("bytes", "GB", Decimal(10) ** 9),
    "container_time": ("container-nanoseconds", "Container-Seconds", Decimal(10) ** 9),
    "starts": ("starts", "Starts", Decimal(1)),
}
DIGITS = set("0123456789")


class Wrong(Exception):
    """Something that must hold does not."""


def require(holds, what):
    if not holds:
        raise Wrong(what)


def refuse_float(text):
    raise Wrong(f"{text} is a JSON number with a fraction; exact numbers are texts")


def load(text):
    return json.loads(text, parse_float=refuse_float)


def number(text):
    require(isinstance(text, str), f"{text!r} is not a text")
    digits = text.removeprefix("-").replace(".", "", 1)
    require(digits != "" and set(digits) <= DIGITS, f"{text!r} is not plain digits")
    return EXACT.create_decimal(text)


class PriceBooks:
    def __init__(self, document):
        views = document["items"] if isinstance(document, dict) else document
        # Times are RFC 3339 in UTC without fractions: their text sorts as they do.
        self.versions = sorted((view["book"]["effective_from"], view["id"], view["book"]) for view in views)

    def at(self, hour):
        found = (None, None)
        for begin, version, book in self.versions:
            if begin <= hour:
                found = (version, book)
        return found

    def currency(self):
        return self.versions[0][2]["currency"] if self.versions else "XXX"


def price(book, meter, container):
    if book is None or (container is None and not book.get("price_unattributed", False)):
        return Decimal(0)
    prices = [entry["unit_price"] for entry in book["prices"] if entry["meter"] == meter]
    require(len(prices) <= 1, f"{meter} has several prices")
    return number(prices[0]) if prices else Decimal(0)


def check_usage(row, books, seen, sums):
    unit, pricing_unit, divisor = PRICING[row["meter"]]
    require(row["unit"] == unit and row["pricing_unit"] == pricing_unit, "the units are not the meter's")
    key = (row["tenant"], row["container"], row["hour"], row["meter"])
    require(key not in seen, f"{key} is there twice")
    seen.add(key)
    quantity = number(row["quantity"])
    require(quantity >= 0 and "." not in row["quantity"], "the quantity is no whole number")
    require(row["quality"] in ("measured", "partial", "not_measurable"), "the quality is unknown")
    require(row["quality"] != "not_measurable" or quantity == 0, "not measurable, but not 0")
    version, book = books.at(row["hour"])
    require(row["price_book"] == version, f"price book {row['price_book']} in place of {version}")
    require(row["currency"] == books.currency(), "the currency is not the price books'")
    unit_price = price(book, row["meter"], row["container"])
    require(number(row["unit_price"]) == unit_price, f"unit price {row['unit_price']} in place of {unit_price:f}")
    units = EXACT.divide(quantity, divisor)
    require(number(row["pricing_quantity"]) == units, f"{row['pricing_quantity']} in place of {units:f}")
    amount = EXACT.multiply(units, unit_price)
    require(number(row["amount"]) == amount, f"amount {row['amount']} in place of {amount:f}")
    total, rows = sums.get(row["tenant"], (Decimal(0), 0))
    sums[row["tenant"]] = (EXACT.add(total, amount), rows + 1)


def check_total(row, books, sums):
    total, rows = sums.pop(row["tenant"], (None, None))
    require(total is not None, f"a total of {row['tenant']}, which has no rows or two totals")
    require(number(row["total_amount"]) == total, f"total {row['total_amount']} in place of {total:f}")
    require(row["rows"] == rows, f"{row['rows']} rows in place of {rows}")
    require(row["currency"] == books.currency(), "the currency is not the price books'")


def main(usage_path, books_path):
    with open(books_path, encoding="utf-8") as file:
        books = PriceBooks(load(file.read()))
    seen, sums, wrong, in_totals = set(), {}, 0, False
    with open(usage_path, encoding="utf-8") as file:
        for at, line in enumerate(file, start=1):
            try:
                require(line.endswith("\n"), "the line has no end")
                row = load(line)
                require(row["schema"] == 2, "the schema is not 2")
                if row["type"] == "usage":
                    require(not in_totals, "usage after the totals")
                    check_usage(row, books, seen, sums)
                else:
                    require(row["type"] == "total", "the type is neither usage nor total")
                    in_totals = True
                    check_total(row, books, sums)
            except (Wrong, KeyError, TypeError, ValueError, ArithmeticError) as error:
                wrong += 1
                print(f"line {at}: {type(error).__name__}: {error}", file=sys.stderr)
    for tenant in sums:
        wrong += 1
        print(f"no total of {tenant}: the file is not whole", file=sys.stderr)
    print(f"{len(seen)} rows, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2]))
