"""The page's files: vendored code is what its authors published, and nothing refers to another host."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

STATIC = Path(__file__).parents[2] / "streamclust" / "web" / "static"
VENDOR = STATIC / "vendor"
HARMLESS = {"http://www.w3.org/2000/svg"}
"""Names of standards; a browser fetches none of them."""
OURS = sorted(path for path in STATIC.rglob("*") if path.is_file() and VENDOR not in path.parents)


def listed() -> dict[str, str]:
    lines = (VENDOR / "SHA256SUMS").read_text().splitlines()
    return {name: digest for digest, name in (line.split(maxsplit=1) for line in lines)}


def test_each_vendored_file_has_the_hash_in_the_list():
    found = {
        path.relative_to(VENDOR).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in VENDOR.rglob("*")
        if path.is_file() and path.name != "SHA256SUMS"
    }

    assert found == listed()


def test_each_vendored_package_comes_with_its_licence():
    packages = [path for path in VENDOR.iterdir() if path.is_dir()]

    assert packages
    assert [path.name for path in packages if not (path / "LICENSE").is_file()] == []


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.relative_to(STATIC).as_posix())
def test_no_file_refers_to_another_host(path):
    text = path.read_text(encoding="utf-8")

    assert set(re.findall(r"(?:https?|wss?):\\?/\\?/[^\s\"'`)<>$]+", text)) <= HARMLESS
    assert re.findall(r"(?:src|href|url|import|from)\s*[=(]?\s*[\"'(]+//", text) == []


@pytest.mark.parametrize(
    "path", sorted(VENDOR.rglob("*.css")) + sorted(VENDOR.rglob("*.js")), ids=lambda path: path.name
)
def test_vendored_code_names_other_hosts_only_in_comments(path):
    code = re.sub(r"/\*.*?\*/|(?<!:)//[^\n]*", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)

    assert re.findall(r"(?:https?|wss?)://[^\s\"'`)]+", code) == []


@pytest.mark.parametrize("path", [path for path in OURS if path.suffix == ".js"], ids=lambda path: path.name)
def test_no_script_parses_html_or_text_as_code(path):
    code = path.read_text(encoding="utf-8")

    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|setTimeout\(\s*[\"'`]|srcdoc|DOMParser"
    assert re.findall(forbidden, code) == []


def test_the_start_page_has_no_inline_script_or_style():
    html = (STATIC / "index.html").read_text(encoding="utf-8")

    assert re.findall(r"<script(?![^>]*\ssrc=)[^>]*>|<style|\sstyle=|\son\w+=", html) == []
