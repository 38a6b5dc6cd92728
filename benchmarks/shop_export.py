"""A made-up outdoor shop: its exports, with the faults that exports have, and what its customers click.

    python benchmarks/shop_export.py DIRECTORY [--customers 800]

No product, brand or customer exists. The export has two tables under column names of the shop: products (`;` between
fields, latin-1, decimal commas) and events of three types with German dates, in a `.csv.gz` and a `.zip`. Guests have
no customer number, articles stand twice, lines are cut, times are no times. `tomorrow/` holds what comes a day later:
the whole list of products, stock and prices alone, and the events of the days after.

Customers have two favourite categories and a favourite brand. Within a visit the next article is of the same product
line (.50), of this line in the category that completes it (.30), or of a favourite category. So the text of the last
article says much, and its transitions say what no text does.
"""

import argparse
import csv
import gzip
import io
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

import numpy as np

ENCODING = "latin-1"
PRODUCT_COLUMNS = ("article_no", "name", "brand", "category", "price", "stock", "listed_on", "supplier_note")
EVENT_COLUMNS = ("customer_no", "article_no", "at", "type", "session", "device")
CATEGORIES = {
    "boots": ("hiking boot", "approach shoe", "winter boot"),
    "jackets": ("rain jacket", "down jacket", "softshell"),
    "backpacks": ("day pack", "trekking pack", "duffel"),
    "tents": ("two-person tent", "tunnel tent", "tarp"),
    "sleeping bags": ("summer bag", "three-season bag", "quilt"),
    "stoves": ("gas stove", "wood stove", "cook set"),
    "bottles": ("steel bottle", "soft flask", "filter bottle"),
    "headlamps": ("headlamp", "camp lantern", "bike light"),
    "poles": ("trekking pole", "folding pole", "ski pole"),
    "ropes": ("single rope", "half rope", "sling set"),
}
LINES = ("Fjäll", "Grat", "Höhenweg", "Nordkap", "Alpglühn", "Mistral", "Sierra", "Café Noir")
BRANDS = ("Köbel", "Arvô", "Tundrä", "Peñasco", "Lüfter & Söhne", "Granit", "Halde", "Sørli")
COLOURS = ("slate", "moss", "rust", "sand")
SAME_LINE = 0.50
COMPLETING = 0.30
CART = 0.20  # of views
PURCHASE = 0.60  # of carts
GUESTS = 0.12  # of visits
FIRST_DAY = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = 60
LATER_DAYS = 3


@dataclass(frozen=True)
class Product:
    """An article: `price` in cents, `stock` in pieces."""

    number: int
    name: str
    brand: str
    category: str
    line: str
    price: int
    stock: int
    listed: datetime

    def row(self, *, price: int | None = None, stock: int | None = None) -> list[str]:
        """Return the row of the export."""
        cents = self.price if price is None else price
        pieces = self.stock if stock is None else stock
        note = f"hall {self.number % 7}, pallet {self.number % 91}"
        fields = [str(self.number), self.name, self.brand, self.category, decimal_comma(cents), str(pieces)]
        return [*fields, self.listed.strftime("%Y-%m-%d"), note]


@dataclass(frozen=True)
class Visit:
    """Events of one visit: customer (None for a guest), session and (article row, seconds after `start`, type)."""

    customer: int | None
    session: str
    start: datetime
    events: tuple[tuple[int, int, str], ...]


class MadeUpShop:
    """The products and customers of the shop.

    Args:
        num_customers: with an account.
        seed: of everything that is drawn.
    """

    def __init__(self, num_customers: int = 800, *, seed: int = 0):
        self.num_customers = num_customers
        self.seed = seed
        draw = np.random.default_rng([seed, 1])
        self.favourites = draw.integers(0, len(CATEGORIES), (num_customers, 2))
        self.brands = draw.integers(0, len(BRANDS), num_customers)

    @cached_property
    def products(self) -> list[Product]:
        """All articles: one of each kind and colour in every line of every category."""
        draw = np.random.default_rng([self.seed, 2])
        found = []
        for category, kinds in CATEGORIES.items():
            for line in LINES:
                for kind in kinds:
                    for colour in COLOURS:
                        brand = BRANDS[int(draw.integers(len(BRANDS)))]
                        found.append(
                            Product(
                                number=100_000 + 7 * len(found),
                                name=f"{line} {kind}, {colour}",
                                brand=brand,
                                category=category,
                                line=line,
                                price=int(draw.lognormal(8.8, 0.7)) // 10 * 10 + 9,
                                stock=int(draw.integers(0, 40)) if draw.random() < 0.85 else 0,
                                listed=FIRST_DAY - timedelta(days=int(draw.integers(30, 900))),
                            )
                        )
        return found

    @cached_property
    def weights(self) -> np.ndarray:
        """Attraction of each article, Zipf over a random order, float64 `[N]`."""
        ranks = np.random.default_rng([self.seed, 3]).permutation(len(self.products))
        return 1.0 / (ranks + 20.0)

    @cached_property
    def _cells(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Category, line and brand of each article, int64 `[N]` each."""
        names = list(CATEGORIES)
        products = self.products
        return (
            np.array([names.index(product.category) for product in products]),
            np.array([LINES.index(product.line) for product in products]),
            np.array([BRANDS.index(product.brand) for product in products]),
        )

    def chances(self, customer: int | None, last: int | None) -> np.ndarray:
        """Return the probability of each article being viewed next, float64 `[N]`.

        Args:
            customer: None for a guest.
            last: row of the article viewed before in this visit; None at its start.
        """
        category, line, brand = self._cells
        weights = self.weights
        if customer is not None:
            weights = weights * np.where(brand == self.brands[customer], 3.0, 1.0)
            is_liked = np.isin(category, self.favourites[customer])
        else:
            is_liked = np.ones(len(weights), dtype=bool)
        chances = _shares(weights * is_liked)
        if last is None:
            return chances
        is_line = line == line[last]
        staying = _shares(weights * (is_line & (category == category[last])))
        next_category = (category[last] + 1) % len(CATEGORIES)
        completing = _shares(weights * (is_line & (category == next_category)))
        chances = (1.0 - SAME_LINE - COMPLETING) * chances + SAME_LINE * staying + COMPLETING * completing
        chances[last] = 0.0
        return chances / chances.sum()

    def visits(self, first_day: datetime, days: int, *, visits_a_day: int, seed: int) -> list[Visit]:
        """Return the visits of some days, in order of time."""
        draw = np.random.default_rng([self.seed, seed])
        found = []
        for number in range(days * visits_a_day):
            start = first_day + timedelta(days=number // visits_a_day, seconds=int(draw.integers(6 * 3600, 23 * 3600)))
            is_guest = draw.random() < GUESTS
            customer = None if is_guest else int(self.num_customers * draw.random() ** 1.5)
            found.append(self._visit(customer, f"s{seed}-{number}", start, draw))
        return sorted(found, key=lambda visit: visit.start)

    def _visit(self, customer: int | None, session: str, start: datetime, draw: np.random.Generator) -> Visit:
        events: list[tuple[int, int, str]] = []
        last: int | None = None
        seconds = 0
        for _ in range(1 + int(draw.poisson(3.0))):
            last = int(draw.choice(len(self.products), p=self.chances(customer, last)))
            events.append((last, seconds, "view"))
            if draw.random() < CART:
                events.append((last, seconds + 20, "cart"))
                if draw.random() < PURCHASE:
                    events.append((last, seconds + 95, "purchase"))
                    seconds += 80
            seconds += int(draw.integers(15, 90))
        return Visit(customer, session, start, tuple(events))

    def event_rows(self, visits: Iterable[Visit]) -> list[list[str]]:
        """Return the rows of the events of some visits."""
        return [
            [
                "" if visit.customer is None else customer_number(visit.customer),
                str(self.products[row].number),
                german_time(visit.start + timedelta(seconds=seconds)),
                kind,
                visit.session,
                ("phone", "desktop", "tablet")[len(visit.events) % 3],
            ]
            for visit in visits
            for row, seconds, kind in visit.events
        ]


def customer_number(customer: int) -> str:
    """Return the number by which the shop knows a customer."""
    return str(5_000_000 + 13 * customer)


def german_time(moment: datetime) -> str:
    """Return a time as the export writes it, in UTC."""
    return moment.strftime("%d.%m.%Y %H:%M:%S")


def decimal_comma(cents: int) -> str:
    """Return a price such as `1.299,00`."""
    return f"{cents // 100:,}".replace(",", ".") + f",{cents % 100:02d}"


def write_export(directory: Path, *, num_customers: int = 800, visits_a_day: int = 40) -> MadeUpShop:
    """Write the export, and what comes a day later, with their faults; return the shop."""
    shop = MadeUpShop(num_customers)
    directory.mkdir(parents=True, exist_ok=True)
    _write_products(directory / "products.csv.gz", _faulty_products(shop))
    visits = shop.visits(FIRST_DAY, DAYS, visits_a_day=visits_a_day, seed=10)
    rows = _faulty_events(shop.event_rows(visits))
    half = len(rows) // 2
    write_table(directory / "events-2026-01.csv.gz", EVENT_COLUMNS, rows[:half])
    write_table(directory / "events-2026-02.zip", EVENT_COLUMNS, rows[half:])
    _write_tomorrow(directory / "tomorrow", shop, visits_a_day)
    return shop


def _write_products(path: Path, rows: Sequence[Sequence[str]]) -> None:
    write_table(path, PRODUCT_COLUMNS, rows)


def _write_tomorrow(directory: Path, shop: MadeUpShop, visits_a_day: int) -> None:
    """Write a day's full list (24 articles gone, 24 new, some renamed), prices and stock, and the next days' events."""
    draw = np.random.default_rng([shop.seed, 20])
    rows = [
        product.row(price=product.price * 9 // 10, stock=int(draw.integers(0, 40))) for product in shop.products[24:]
    ]
    for row in rows[:5]:
        row[1] += " (new edition)"
    for number, category in enumerate(np.resize(list(CATEGORIES), 24)):
        kind = CATEGORIES[str(category)][number % 3]
        rows.append([str(990_000 + number), f"Vulkan {kind}, {COLOURS[number % 4]}", "Granit", str(category)])
        rows[-1] += [decimal_comma(4_900 + 100 * number), "25", "2026-03-01", "hall 1, pallet 3"]
    rows.append(["990100", "", "", "", "19,90", "3", "2026-03-01", "hall 1, pallet 3"])  # has no text
    directory.mkdir(parents=True, exist_ok=True)
    _write_products(directory / "products.csv.gz", rows)
    stock = [[row[0], row[4], row[5]] for row in rows[:-25]]
    write_table(directory / "stock.csv", ("article_no", "price", "stock"), stock)
    visits = shop.visits(FIRST_DAY + timedelta(days=DAYS), LATER_DAYS, visits_a_day=visits_a_day, seed=11)
    gone = {str(product.number) for product in shop.products[:24]}
    events = [row for row in shop.event_rows(visits) if row[1] not in gone]
    write_table(directory / "events.zip", EVENT_COLUMNS, events)


def _faulty_products(shop: MadeUpShop) -> list[list[str]]:
    """Return the rows of the products with repeated articles, cut lines, and rows without number or name."""
    rows = [product.row() for product in shop.products]
    for place in (40, 41, 333, 700):
        rows.insert(place + 50, shop.products[place].row(price=shop.products[place].price * 2))
    rows.insert(120, rows[120][:3])
    rows.insert(480, rows[480][:5])
    rows.insert(300, ["", "Muster, nicht verkäuflich", *rows[300][2:]])
    rows.insert(600, ["880001", "", "", "", "9,90", "1", "2025-11-02", "hall 3, pallet 8"])
    return rows


def _faulty_events(rows: list[list[str]]) -> list[list[str]]:
    """Return events with times that are none, cut lines, articles of another list, and a type of an experiment."""
    found = []
    for number, row in enumerate(rows):
        if number % 997 == 5:
            found.append([*row[:2], "00.00.0000 00:00:00", *row[3:]])
        elif number % 1_499 == 7:
            found.append(row[:4])
        elif number % 701 == 11:
            found.append([row[0], "77001", *row[2:]])
        elif number % 803 == 13:
            found.append([*row[:3], "wishlist", *row[4:]])
        elif number % 1_201 == 17:
            found += [row, row]
        else:
            found.append(row)
    return found


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table as the shop does: `;`, latin-1; packed where the name says so."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=";", lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows(rows)
    content = text.getvalue().encode(ENCODING)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(content, mtime=0))
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{path.stem}.csv", content)
    else:
        path.write_bytes(content)


def _shares(weights: np.ndarray) -> np.ndarray:
    return weights / weights.sum()


def main() -> None:
    """Write the export."""
    parser = argparse.ArgumentParser(description="Write the exports of a made-up shop.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--customers", type=int, default=800)
    known = parser.parse_args()
    write_export(known.directory, num_customers=known.customers)


if __name__ == "__main__":
    main()
