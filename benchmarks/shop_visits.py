"""Made-up customers of the made-up shop: they ask servers for lists, and click on what they like.

    python benchmarks/shop_visits.py clicks.csv http://127.0.0.1:8000 http://127.0.0.1:8001 [--visits 600]

A customer always asks the same server (customer number modulo the number of servers), as an A/B test demands. What is
shown attracts by the chances that `MadeUpShop` gives it, less at lower ranks; an article that is in no list may be
viewed too. The clicks are written as the shop writes its exports.
"""

import argparse
import json
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.shop_export import CART, EVENT_COLUMNS, MadeUpShop, customer_number, german_time, write_table

TOP_K = 10
ATTRACTION = 6.0  # of an article in a list, times its chance of being viewed next
OWN_WAY = 0.5  # of customers look at something else, too
SECONDS = 2  # from a list to the first click; the export has no fractions of a second


def main() -> None:
    """Visit the servers and write the clicks."""
    parser = argparse.ArgumentParser(description="Let made-up customers visit servers.")
    parser.add_argument("clicks", type=Path, help="csv that is written")
    parser.add_argument("servers", nargs="+", help="addresses")
    parser.add_argument("--visits", type=int, default=600)
    known = parser.parse_args()
    shop = MadeUpShop()
    draw = np.random.default_rng(7)
    rows: list[list[str]] = []
    for number in range(known.visits):
        customer = int(draw.integers(shop.num_customers))
        viewed = [int(draw.choice(len(shop.products), p=shop.chances(customer, None)))]
        viewed.append(int(draw.choice(len(shop.products), p=shop.chances(customer, viewed[0]))))
        shown = recommended(known.servers[customer % len(known.servers)], shop, customer, viewed)
        rows += _events(shop, customer, viewed[-1], shown, f"v{number}", draw)
    write_table(known.clicks, EVENT_COLUMNS, rows)
    print(f"{known.visits} visits, {len(rows)} events: {known.clicks}")


def recommended(server: str, shop: MadeUpShop, customer: int, viewed: list[int]) -> list[int]:
    """Return the rows of the articles that a server lists; those that the shop did not have are left out."""
    body: dict[str, Any] = {
        "inputs": [str(shop.products[row].number) for row in viewed],
        "parameters": {"top_k": TOP_K, "where": {"stock": {"min": 1}}},
    }
    headers = {"Content-Type": "application/json", "X-User-ID": customer_number(customer)}
    request = urllib.request.Request(f"{server}/recommend", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as reply:
        (answers,) = json.load(reply)["recommendations"]
    rows = {str(product.number): row for row, product in enumerate(shop.products)}
    return [rows[answer["item_id"]] for answer in answers if answer["item_id"] in rows]


def _events(
    shop: MadeUpShop, customer: int, last: int, shown: list[int], session: str, draw: np.random.Generator
) -> list[list[str]]:
    """Return the rows of what a customer does after a list."""
    chances = shop.chances(customer, last)
    clicked = [
        row
        for rank, row in enumerate(shown, start=1)
        if draw.random() < min(0.9, ATTRACTION * chances[row]) / np.sqrt(rank)
    ]
    if draw.random() < OWN_WAY:
        clicked.append(int(draw.choice(len(shop.products), p=chances)))
    moment = datetime.now(UTC) + timedelta(seconds=SECONDS)
    rows = []
    for row in clicked:
        kinds = ["view", *(["cart"] if draw.random() < CART else [])]
        for kind in kinds:
            number = str(shop.products[row].number)
            rows.append([customer_number(customer), number, german_time(moment), kind, session, "desktop"])
            moment += timedelta(seconds=1)
    return rows


if __name__ == "__main__":
    main()
