"""A real browser for tests, and what they do with a page."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait


@pytest.fixture(scope="session")
def browser() -> Iterator[webdriver.Chrome]:
    """Chromium without a window, 1400 by 1000 pixels; skips where there is none."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    chromedriver = shutil.which("chromedriver")
    if not chromium or not chromedriver:
        pytest.skip("no chromium and chromedriver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "window-size=1400,1000"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(chromedriver))
    try:
        yield driver
    finally:
        driver.quit()


class Page:
    """The playground, as a person uses it."""

    def __init__(self, driver: webdriver.Chrome, url: str, fragment: str = "") -> None:
        self.driver = driver
        driver.get("about:blank")  # else another fragment alone would not load the page anew
        driver.get_log("browser")
        driver.get(f"{url}/{fragment}")
        self.wait(lambda: self.find("#form :is(input, textarea)"))

    def find(self, selector: str) -> WebElement | None:
        return next(iter(self.all(selector)), None)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return self.driver.execute_script(
            "return document.querySelector(arguments[0]).innerText", selector
        )

    def texts(self, selector: str) -> list[str]:
        return [element.text for element in self.all(selector)]

    def wait(self, condition: Callable[[], Any]) -> Any:
        """What the condition says as soon as it is true; fails after ten seconds."""
        waiting = WebDriverWait(self.driver, 10, 0.02, [StaleElementReferenceException])
        return waiting.until(lambda driver: condition())

    def choose(self, picker: str, value: str) -> None:
        """Picks the option, and waits for the signature's form."""
        Select(self.find(f"#{picker}")).select_by_value(value)
        inert = "return document.querySelector('#form').inert"
        self.wait(lambda: not self.driver.execute_script(inert))

    def chosen(self, picker: str) -> str:
        return self.driver.execute_script(f"return document.querySelector('#{picker}').value")

    def options(self, picker: str) -> list[str]:
        return [option.text for option in Select(self.find(f"#{picker}")).options]

    def radio(self, value: str) -> None:
        """Clicks the choice: form, json, row, columnar, curl, python, grpc."""
        self.driver.execute_script(f"document.querySelector('input[value={value}]').click()")

    def field(self, label: str, row: int = 0) -> WebElement:
        """The control whose label begins with the input's name."""
        found = [
            element.get_attribute("for")
            for element in self.all("#form label[for]")
            if element.text.split()[0] == label
        ]
        return self.driver.find_element(By.ID, found[row])

    def type(self, element: WebElement, text: str) -> None:
        """Types over what is there."""
        element.send_keys(Keys.CONTROL, "a")
        element.send_keys(text or Keys.DELETE)

    def ask(self) -> str:
        """Clicks Ask, and gives the answer's text."""
        self.find("#send").click()
        self.wait(lambda: self.find("#send").is_enabled())
        return self.text("#result")

    @contextmanager
    def wide(self, pixels: int) -> Iterator[None]:
        """Shows the page at this width, which may be less than a window's least."""
        metrics = {"width": pixels, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        try:
            yield
        finally:
            self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    def code(self, language: str) -> str:
        self.radio(language)
        return self.driver.execute_script("return document.querySelector('#code').textContent")

    def complaints(self) -> list[Any]:
        """What the browser's console has, but for the statuses that a page can't hush."""
        status = "the server responded with a status of"
        return [e for e in self.driver.get_log("browser") if status not in json.dumps(e)]
