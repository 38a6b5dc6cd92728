"""Pictures of what a run looks like in a browser, for the pages: the description of the API, and the demo with filters.

    python benchmarks/shop.py
    python benchmarks/screenshots.py --run runs/shop

The run is that of the made-up shop, so no picture shows data of anybody. Needs chromium on the machine and playwright,
which the extra `dev` has.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from cost_hf.hub.space.app import launch_demo

IMAGES = Path(__file__).parent.parent / "docs" / "pages" / "images"
FLAGS = ["--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
SIZE = {"width": 1100, "height": 1100}
# every item shown is cheap, and no brand stands there three times: the list that was asked for, not the one before
FILTERED = """() => {
  const facts = [...document.querySelectorAll('ol.ranking .facts')].map(line => line.textContent);
  const prices = facts.map(text => parseFloat(text.match(/price ([0-9.]+)/)?.[1]));
  const brands = facts.map(text => text.match(/brand ([^·]+)/)?.[1].trim());
  const most = Math.max(...brands.map(brand => brands.filter(other => other === brand).length));
  return facts.length > 0 && prices.every(price => price <= 40) && most <= 2;
}"""


def main() -> None:
    """Take both pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, help="run directory of the made-up shop")
    run = parser.parse_args().run
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("no chromium on this machine; install it")
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=FLAGS)
        take_openapi(browser, run)
        take_demo(browser, run)
        browser.close()


def take_openapi(browser: Browser, run: str) -> None:
    """Take the page /docs of the server, with the request for recommendations open."""
    command = [sys.executable, "-m", "cost_hf.cli", "serve", run, "--port", "0", "--drain", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        page = browser.new_page(viewport=SIZE)
        page.goto(f"{address_of(server)}/docs")
        page.locator(".opblock-post", has_text="/recommend").click()
        page.wait_for_selector(".opblock-body .highlight-code")
        page.screenshot(path=IMAGES / "openapi.png")
        page.close()
    finally:
        server.terminate()
        server.wait()


def address_of(server: "subprocess.Popen[str]") -> str:
    """Return the address that a server logs once it listens."""
    for line in server.stderr or ():
        entry: dict[str, Any] = json.loads(line) if line.startswith("{") else {}
        if "address" in entry:
            return str(entry["address"])
    raise SystemExit("the server has ended; start it by hand to see why")


def take_demo(browser: Browser, run: str) -> None:
    """Take the demo with a filter and at most two items of a brand."""
    demo = launch_demo(run, block=False)
    try:
        page = browser.new_page(viewport=SIZE)
        page.goto(demo.local_url)
        page.get_by_role("button", name="Example", exact=True).click()
        page.wait_for_selector("ol.ranking li")
        page.get_by_role("button", name="Filters").click()
        page.get_by_label("price to").fill("40")
        page.get_by_label("At most 2 items of the same").click()
        page.get_by_role("option", name="brand").click()
        page.wait_for_function(FILTERED)
        page.wait_for_selector("ul.options", state="detached")
        page.screenshot(path=IMAGES / "demo_filters.png", full_page=True)
        page.close()
    finally:
        demo.close()


if __name__ == "__main__":
    main()
