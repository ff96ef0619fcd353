#!/usr/bin/env python3
"""Rates hours again from the rules, in another language and with exact fractions, and compares all.

    rerate.py hours.jsonl price-books.json contracts.json rated.jsonl statements.jsonl

hours.jsonl has what was metered, one row of an hour a line, by hour and tenant. The other two are the books
and contracts as the API shows them. rated.jsonl is what the product made of the hours (its JSON lines), and
statements.jsonl its statements: tenant, month, net, tax, total, adjustment. Every row and every statement
must be there, in order, and equal in every number. Exit status 0 and "N rows, M statements" if so; else 1 and
the first difference on standard error. Shares no code with the product; needs only Python's own library.
"""

import json
import sys
from fractions import Fraction
from math import floor

METERS = [
    "cpu_used", "cpu_reserved", "memory_used", "memory_reserved", "block_read", "block_write", "container_time", "starts",
]
PAIRS = {"cpu_used": "cpu", "cpu_reserved": "cpu", "memory_used": "memory", "memory_reserved": "memory"}
USUAL = {"cpu": "Core-Seconds", "memory": "GB-Seconds", "block": "GB", "container": "Container-Seconds", "starts": "Starts"}
UNITS = [
    "Core-Seconds", "Core-Hours", "GB-Seconds", "GB-Hours", "GiB-Hours", "GB", "GiB",
    "Container-Seconds", "Container-Hours", "Starts",
]
# Smallest units in a core-second, a GB-second, a GB, a container-second, a start.
SMALLEST = {
    "cpu_used": 10**9, "cpu_reserved": 10**12, "memory_used": 10**18, "memory_reserved": 10**18,
    "block_read": 10**9, "block_write": 10**9, "container_time": 10**9, "starts": 1,
}
# The usual unit's quantity × times / divided.
CONVERSION = {
    "Core-Seconds": (1, 1), "GB-Seconds": (1, 1), "GB": (1, 1), "Core-Hours": (1, 3600), "GB-Hours": (1, 3600),
    "GiB-Hours": (10**9, 2**30 * 3600), "GiB": (10**9, 2**30),
    "Container-Seconds": (1, 1), "Container-Hours": (1, 3600), "Starts": (1, 1),
}
CUT = 10**12
RELIEFS = [None, "free_quantity", "cap"]


def number(text):
    return None if text is None else Fraction(text)


def cut(value):
    return Fraction(floor(value * CUT), CUT)


class Sku:
    def __init__(self, price):
        meter = price["meter"]
        policy = price.get("policy") or ("reserved" if meter.endswith("reserved") else "used")
        self.policy = policy if isinstance(policy, str) else "blend"
        joint = self.policy in ("max", "blend")
        self.id = PAIRS[meter] if joint else meter
        self.factors = {meter: Fraction(1)}
        if joint:
            used = [m for m in METERS if PAIRS.get(m) == self.id]
            shares = policy["blend"] if self.policy == "blend" else {"used": "1", "reserved": "1"}
            self.factors = {m: Fraction(shares[m.rsplit("_", 1)[1]]) for m in used}
        self.unit = price.get("unit") or USUAL[meter.split("_")[0]]
        self.volume = price.get("tiering") == "volume"
        self.minimum = number(price.get("minimum_quantity"))
        self.cap = number(price.get("monthly_cap"))
        self.tax_class = price.get("tax_class") or "standard"
        allowance = number(price.get("allowance"))
        self.steps = [] if allowance is None else [(Fraction(0), "t0", Fraction(0))]
        if price.get("tiers"):
            for at, tier in enumerate(price["tiers"], start=1):
                self.steps.append((Fraction(tier["from"]), f"t{at}", Fraction(tier["unit_price"])))
        else:
            name = "standard" if allowance is None else "t1"
            self.steps.append((allowance or Fraction(0), name, Fraction(price["unit_price"])))

    def step_after(self, position):
        at = max(i for i, step in enumerate(self.steps) if step[0] <= position)
        return self.steps[at], self.steps[at + 1][0] if at + 1 < len(self.steps) else None

    def step_of_last(self, total):
        return self.steps[max([i for i, step in enumerate(self.steps) if step[0] < total], default=0)]


class State:
    def __init__(self):
        self.position, self.free_used, self.carry, self.spent = Fraction(0), Fraction(0), Fraction(0), {}

    def take(self, meter, quantity, sku):
        exact = Fraction(quantity, SMALLEST[meter]) * sku.factors[meter]
        times, divisor = CONVERSION[sku.unit]
        if divisor == 1:
            return exact
        whole = exact * times + self.carry
        units = cut(whole / divisor)
        self.carry = whole - units * divisor
        return units


class Rules:
    def __init__(self, books, contracts):
        self.books = []
        for view in sorted(books, key=lambda view: view["book"]["effective_from"]):
            skus = [Sku(price) for price in view["book"]["prices"]]
            by_meter = {meter: sku for sku in skus for meter in sku.factors}
            self.books.append((view["book"]["effective_from"], view["id"], view["book"], by_meter))
        self.contracts = contracts

    def book(self, hour):
        found = None
        for book in self.books:
            if book[0] <= hour:
                found = book
        return found

    def contract(self, tenant, hour):
        for view in self.contracts:
            spec = view["contract"]
            if spec["tenant"] == tenant and spec["from"] <= hour and (not spec.get("to") or hour < spec["to"]):
                return view
        return None

    def contracted(self, view, sku, listed):
        if view is None or listed == 0:
            return listed
        spec = view["contract"]
        terms = next((terms for terms in spec.get("terms", []) if terms["sku"] == sku.id), {})
        if terms.get("unit_price") is not None:
            return Fraction(terms["unit_price"])
        percent = terms.get("discount_percent") or spec.get("discount_percent") or "0"
        return listed * (1 - Fraction(percent) / 100)

    def free(self, view, sku):
        if view is None:
            return None
        terms = next((terms for terms in view["contract"].get("terms", []) if terms["sku"] == sku.id), {})
        return number(terms.get("free_quantity"))


def attributed(rows):
    sums = {}
    for row in rows:
        if row["container"] is not None:
            sums[row["meter"]] = sums.get(row["meter"], 0) + int(row["quantity"])
    out = []
    for row in rows:
        quantity = int(row["quantity"])
        if row["container"] is None:
            quantity -= sums.get(row["meter"], 0)
            if quantity <= 0:
                continue
        out.append((row["container"] is None, row["container"] or "", METERS.index(row["meter"]), row["meter"], quantity))
    return sorted(out)


def charged(rows, book):
    """The rows of an hour, each with its SKU if it is charged."""
    quantities = {(container, meter): Fraction(quantity, SMALLEST[meter]) for _, container, _, meter, quantity in rows}
    for outside, container, _, meter, quantity in rows:
        sku = book[3].get(meter) if book and (not outside or book[2].get("price_unattributed")) else None
        if sku is not None and sku.policy == "max":
            own = (quantities[container, meter], -METERS.index(meter))
            others = [m for m in sku.factors if m != meter and (container, m) in quantities]
            if any((quantities[container, m], -METERS.index(m)) > own for m in others):
                sku = None
        yield outside, container or None, meter, quantity, sku


def rate(rules, tenant, hour, rows, states, minimums, totals):
    book, view = rules.book(hour), rules.contract(tenant, hour)
    ids = (book[1] if book else None, view["id"] if view else None)
    for outside, container, meter, quantity, sku in charged(attributed(rows), book):
        base = (container, meter)
        if sku is None:
            exact = Fraction(quantity, SMALLEST[meter])
            usual = USUAL[meter.split("_")[0]]
            yield base, quantity, meter, "standard", "none", usual, exact, Fraction(0), Fraction(0), None, ids, sku
            continue
        key = (sku.id, sku.unit)
        state = states.setdefault(key, State())
        rest = whole = state.take(meter, quantity, sku)
        if sku.minimum is not None and rest:
            minimums[key] = (hour, meter)
        left = quantity
        while True:
            step, end = sku.step_after(state.position)
            part, relief = rest, None
            is_free = step[1] == "t0"
            if sku.volume and not is_free:
                step = sku.step_of_last(totals[tenant, hour[:7], key])
            elif end is not None:
                part = min(part, end - state.position)
            price = rules.contracted(view, sku, step[2])
            free = rules.free(view, sku)
            if not is_free and free is not None and free > state.free_used and rest:
                part = min(part, free - state.free_used)
                state.free_used += part
                price, relief = Fraction(0), "free_quantity"
            if sku.cap is not None and price:
                spent = state.spent.get(container, Fraction(0))
                if part * price > sku.cap - spent:
                    affordable = cut(max(sku.cap - spent, 0) / price)
                    if affordable:
                        part = affordable
                    else:
                        price, relief, spent = Fraction(0), "cap", sku.cap
                state.spent[container] = spent + part * price
            state.position += part
            rest -= part
            share = left if not rest else min(left, floor(Fraction(part * quantity) / whole))
            left -= share
            yield base, share, sku.id, step[1], sku.policy, sku.unit, part, step[2], price, relief, ids, sku
            if not rest:
                break


def missing(rules, tenant, states, minimums):
    for key in sorted(minimums, key=lambda key: (key[0], UNITS.index(key[1]))):
        hour, meter = minimums[key]
        book, view = rules.book(hour), rules.contract(tenant, hour)
        sku = book[3].get(meter)
        if sku is None or (sku.id, sku.unit) != key or sku.minimum is None:
            continue
        used = states[key].position
        if sku.minimum > used:
            listed = sku.step_after(used)[0][2]
            ids = (book[1], view["id"] if view else None)
            price = rules.contracted(view, sku, listed)
            row = ((None, meter), 0, sku.id, "minimum", sku.policy, sku.unit, sku.minimum - used, listed, price)
            yield hour, row + (None, ids, sku)


def rounded(amount, mode):
    cents = amount * 100
    low = floor(cents)
    half = cents - low - Fraction(1, 2)
    if half > 0 or (half == 0 and (low % 2 == 1 if mode == "half_even" else low >= 0)):
        low += 1
    return Fraction(low, 100)


def tier_order(tier):
    return (0, 0) if tier == "standard" else (2, 0) if tier == "minimum" else (1, int(tier[1:]))


def statement(rules, tenant, month, last_hour, rows, used):
    """Net, tax, total and adjustment of the rated rows of a tenant's month."""
    book = rules.book(last_hour)
    mode = (book[2].get("rounding") or "half_even") if book else "half_even"
    lines, exact = {}, Fraction(0)
    for (container, _), _, sku_id, tier, policy, unit, quantity, listed, price, relief, _, sku in rows:
        outside = container is None and tier != "minimum"
        if policy == "none" and not outside:
            continue
        tax_class = sku.tax_class if sku else "standard"
        key = (outside, sku_id, unit, tier_order(tier), RELIEFS.index(relief), listed, price, tax_class, policy)
        lines[key] = lines.get(key, Fraction(0)) + quantity * price
    bases = {}
    for key in sorted(lines):
        exact += lines[key]
        bases[key[7]] = bases.get(key[7], Fraction(0)) + rounded(lines[key], mode)
    net = sum(bases.values(), Fraction(0))
    begin, end = month + "-01T00:00:00Z", next_month(month) + "-01T00:00:00Z"
    credits = []
    for view in rules.contracts:
        spec = view["contract"]
        if spec["tenant"] != tenant or spec["from"] >= end or (spec.get("to") and spec["to"] <= begin):
            continue
        for credit in spec.get("credits", []):
            expires = credit.get("expires_at")
            if not expires or begin < expires:
                credits.append((expires is None, expires or "", spec["from"], credit["name"], view["id"], Fraction(credit["amount"])))
    for *_, name, contract, amount in sorted(credits):
        take = min(amount - used.get((contract, name), 0), net)
        take = Fraction(floor(take * 100), 100)
        if take <= 0:
            continue
        used[contract, name] = used.get((contract, name), 0) + take
        net -= take
        exact -= take
        for tax_class in bases:
            part = min(take, bases[tax_class])
            bases[tax_class] -= part
            take -= part
    view = rules.contract(tenant, last_hour)
    if view is None:
        of_month = [v for v in rules.contracts if v["contract"]["tenant"] == tenant and v["contract"]["from"] < end
                    and (not v["contract"].get("to") or begin < v["contract"]["to"])]
        view = max(of_month, key=lambda v: v["contract"]["from"], default=None)
    tax = Fraction(0)
    for tax_class, base in bases.items():
        rate = (view["contract"].get("taxes") or {}).get(tax_class) if view else None
        if rate is not None:
            tax += rounded(base * Fraction(rate) / 100, mode)
            exact += base * Fraction(rate) / 100
    return net, tax, net + tax, net + tax - exact


def next_month(month):
    year, number_ = int(month[:4]), int(month[5:])
    return f"{year + number_ // 12:04}-{number_ % 12 + 1:02}"


def groups(path):
    group = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            if group and (group[0]["hour"], group[0]["tenant"]) != (row["hour"], row["tenant"]):
                yield group
                group = []
            group.append(row)
    if group:
        yield group


def scan(rules, path):
    states, totals = {}, {}
    for group in groups(path):
        hour, tenant = group[0]["hour"], group[0]["tenant"]
        for _, _, meter, quantity, sku in charged(attributed(group), rules.book(hour)):
            if sku is not None:
                key = (tenant, hour[:7], (sku.id, sku.unit))
                units = states.setdefault(key, State()).take(meter, quantity, sku)
                totals[key] = totals.get(key, Fraction(0)) + units
    return totals


def same(line, tenant, hour, row):
    (container, meter), share, sku_id, tier, policy, unit, quantity, listed, price, relief, ids, _ = row
    texts = {
        "tenant": tenant, "hour": hour, "container": container, "meter": meter, "sku": sku_id, "tier": tier,
        "policy": policy, "pricing_unit": unit, "relief": relief, "price_book": ids[0], "contract": ids[1],
    }
    numbers = {
        "quantity": share, "pricing_quantity": quantity, "list_unit_price": listed, "unit_price": price,
        "amount": quantity * price,
    }
    for name, value in texts.items():
        if line[name] != value:
            return f"{name} is {line[name]} in place of {value}"
    for name, value in numbers.items():
        if Fraction(line[name]) != value:
            return f"{name} is {line[name]} in place of {value}"
    return None


def main(hours, books, contracts, rated, statements):
    with open(books, encoding="utf-8") as one, open(contracts, encoding="utf-8") as other:
        rules = Rules(json.load(one), json.load(other))
    totals = scan(rules, hours)
    counts, used = [0, 0], {}
    with open(rated, encoding="utf-8") as rows, open(statements, encoding="utf-8") as papers:

        def compare(tenant, hour, row):
            counts[0] += 1
            line = rows.readline()
            wrong = same(json.loads(line), tenant, hour, row) if line else "it is missing"
            if wrong:
                sys.exit(f"row {counts[0]}, {tenant} {hour}: {wrong}")

        def close(month, of_month, last_hour):
            for tenant in sorted(of_month):
                states, minimums, own = of_month[tenant]
                for hour, row in missing(rules, tenant, states, minimums):
                    compare(tenant, hour, row)
                    own.append(row)
                values = statement(rules, tenant, month, last_hour, own, used)
                counts[1] += 1
                line = papers.readline()
                paper = json.loads(line) if line else {}
                if (paper.get("tenant"), paper.get("month")) != (tenant, month):
                    sys.exit(f"statement {counts[1]} is not that of {tenant} {month}")
                for name, value in zip(("net", "tax", "total", "adjustment"), values):
                    if Fraction(paper[name]) != value:
                        sys.exit(f"{tenant} {month}: {name} is {paper[name]} in place of {value}")

        month, of_month = None, {}
        for group in groups(hours):
            hour, tenant = group[0]["hour"], group[0]["tenant"]
            if month != hour[:7]:
                if month:
                    close(month, of_month, last_hour(month))
                month, of_month = hour[:7], {}
            states, minimums, own = of_month.setdefault(tenant, ({}, {}, []))
            for row in rate(rules, tenant, hour, group, states, minimums, totals):
                compare(tenant, hour, row)
                own.append(row)
        if month:
            close(month, of_month, last_hour(month))
        if rows.readline() or papers.readline():
            sys.exit("there is more than follows from the hours")
    print(f"{counts[0]} rows, {counts[1]} statements")


def last_hour(month):
    days = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][int(month[5:]) - 1]
    year = int(month[:4])
    if month[5:] == "02" and year % 4 == 0 and (year % 100 != 0 or year % 400 == 0):
        days = 29
    return f"{month}-{days:02}T23:00:00Z"


if __name__ == "__main__":
    if len(sys.argv) != 6:
        sys.exit(__doc__)
    main(*sys.argv[1:])
