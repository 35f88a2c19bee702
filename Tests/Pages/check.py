"""Looks at reports in a browser as people do: on a phone and on a desk, in light and dark, and on paper.

usage: check.py [--pictures DIRECTORY] PAGE.html...

On every page axe-core finds nothing, nothing is wider than the screen, nothing is fetched and nothing is complained of; on a phone every
verdict is on the screen; on paper no table is cut. The browser is the one that CHROMIUM names, or Debian's chromium. Exits with 1 where
anything is not so.
"""

import os
import pathlib
import shutil
import sys

import axe_playwright_python
from playwright.sync_api import sync_playwright

AXE = (pathlib.Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
WIDTHS = [320, 400, 1280]
PHONE = 400
# A4 without margins of a centimetre, at 96 pixels an inch.
PAPER = int((210 - 20) / 25.4 * 96)

OVERFLOW = """width => [...document.querySelectorAll('body *')].filter(part =>
  !part.closest('.scroll, pre, svg, .hidden') && part.getBoundingClientRect().right > width + 0.5
).map(part => part.tagName + ' ' + part.className).slice(0, 3)"""
# What is cut: an element that holds more than it shows, or reaches beyond the edge.
CUT = """width => [...document.querySelectorAll('.scroll, table, td, th, figure svg')].filter(part =>
  part.getBoundingClientRect().width > 0 && !part.closest('.hidden')
  && (part.getBoundingClientRect().right > width + 0.5 || part.scrollWidth > part.clientWidth + 1 && part.tagName !== 'svg')
).map(part => part.tagName + ' ' + part.textContent.trim().slice(0, 40)).slice(0, 3)"""
# Verdicts stand in tables, whose boxes scroll.
HIDDEN_VERDICTS = """width => [...document.querySelectorAll('td .good, td .bad')].filter(verdict => {
  const box = verdict.closest('.scroll').getBoundingClientRect(), own = verdict.getBoundingClientRect();
  return own.right > Math.min(width, box.right) + 0.5 || own.left < box.left - 0.5;
}).map(verdict => verdict.textContent)"""


def browser_path():
    named = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    return named or sys.exit("no chromium found; install it or set CHROMIUM")


def check(browser, path, pictures):
    problems = []
    address = path.resolve().as_uri()
    for theme in ("light", "dark"):
        for width in WIDTHS:
            context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
            page = context.new_page()
            seen = []
            page.on("console", lambda message: seen.append(f"console: {message.text}"))
            page.on("pageerror", lambda error: seen.append(f"error: {error}"))
            page.on("request", lambda request: request.url != address and seen.append(f"fetches {request.url}"))
            page.goto(address)
            where = f"{width} {theme}"
            problems += [f"{where}: {line}" for line in seen]
            problems += [f"{where}: wider than the screen: {part}" for part in page.evaluate(OVERFLOW, width)]
            if width <= PHONE:
                problems += [f"{where}: the verdict '{text}' is not on the screen"
                             for text in page.evaluate(HIDDEN_VERDICTS, width)] if width == PHONE else []
                banner = page.locator(".verdict").bounding_box()
                if not banner or banner["y"] + min(banner["height"], 120) > 900:
                    problems.append(f"{where}: the banner is not on the first screen")
            page.evaluate(AXE)
            page.locator("details").evaluate_all("parts => parts.forEach(part => part.open = true)")
            for finding in page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]:
                problems.append(f"{where}: axe {finding['id']}: {finding['nodes'][0]['html'][:90]}")
            page.locator("details").evaluate_all("parts => parts.forEach(part => part.open = false)")
            if pictures:
                page.screenshot(path=pictures / f"{path.stem}-{width}-{theme}.png", full_page=True)
            context.close()
    context = browser.new_context(viewport={"width": PAPER, "height": 1000})
    page = context.new_page()
    page.goto(address)
    page.emulate_media(media="print")
    problems += [f"print: cut: {part}" for part in page.evaluate(CUT, PAPER)]
    if pictures:
        page.pdf(path=pictures / f"{path.stem}.pdf", format="A4", print_background=True,
                 margin={side: "1cm" for side in ("top", "right", "bottom", "left")})
    titles = page.locator("figure figcaption strong").all_text_contents()
    if len(set(titles)) != len(titles):
        problems.append(f"figures repeat themselves: {titles}")
    context.close()
    return problems


def main():
    arguments = sys.argv[1:]
    pictures = None
    if arguments[:1] == ["--pictures"]:
        pictures = pathlib.Path(arguments[1])
        pictures.mkdir(parents=True, exist_ok=True)
        arguments = arguments[2:]
    pages = [pathlib.Path(argument) for argument in arguments]
    if not pages:
        sys.exit(__doc__)
    failed = False
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path(), args=["--no-sandbox"])
        for page in pages:
            problems = check(browser, page, pictures)
            failed = failed or bool(problems)
            print(f"{'FAILED' if problems else 'ok'}  {page.name}", *problems, sep="\n    " if problems else " ")
        browser.close()
    sys.exit(1 if failed else 0)


main()
