// A table of any length in a scrolling box: rows come in pages by cursor, and only those in sight are in the document.

import { h, replace } from "./dom.js";

const PAGE = 200;
const KEPT = 24; // pages in memory; farther ones are asked for again by their cursor
const TALLEST = 8e6; // px; browsers draw no taller boxes
const SPARE = 12; // rows beyond each edge

/** Infinite rows (no cell spans columns: a phone hides some); `fetchPage(cursor, limit, signal)` gives {items, next}, `render(item, index)` a tr of `rowHeight` px. */
export class VirtualTable {
  constructor({ scroller, body, rowHeight, fetchPage, render, onState }) {
    Object.assign(this, { scroller, body, rowHeight, fetchPage, render, onState });
    this.scroll = () => this.draw();
    scroller.addEventListener("scroll", this.scroll, { passive: true });
    this.watcher = new ResizeObserver(this.scroll);
    this.watcher.observe(scroller);
    this.generation = 0;
    this.#empty();
  }

  #empty() {
    this.aborts?.abort();
    this.aborts = new AbortController();
    this.pages = [{ cursor: null, items: null, loading: false }];
    this.rows = 0;
    this.ended = false;
    this.failed = null;
  }

  /** Starts anew from the first page; the old rows stay in sight until it is here. */
  async reload({ keepPlace = false } = {}) {
    const generation = ++this.generation;
    this.#empty();
    await this.#load(0, generation);
    if (generation !== this.generation) return;
    if (!keepPlace) this.scroller.scrollTop = 0;
    this.draw();
  }

  /** The item of a row, when it is in memory. */
  item(index) {
    return this.pages[Math.floor(index / PAGE)]?.items?.[index % PAGE] ?? null;
  }

  /** Scrolls so that a row is in sight. */
  reveal(index) {
    const scale = this.#scale();
    const top = (index * this.rowHeight) / scale;
    const inner = this.scroller.clientHeight - this.rowHeight * 2;
    if (top < this.scroller.scrollTop) this.scroller.scrollTop = top;
    else if (top > this.scroller.scrollTop + inner) this.scroller.scrollTop = top - inner;
    this.draw();
  }

  /** Rows per row's height of scrolling: more than one only in very long tables. */
  #scale() {
    return Math.max(1, (this.rows * this.rowHeight) / TALLEST);
  }

  async #load(at, generation = this.generation) {
    const page = this.pages[at];
    if (!page || page.loading || page.items) return;
    page.loading = true;
    try {
      const { items, next } = await this.fetchPage(page.cursor, PAGE, this.aborts.signal);
      if (generation !== this.generation) return;
      page.items = items;
      if (at === this.pages.length - 1) {
        this.rows = at * PAGE + items.length;
        if (next === null) this.ended = true;
        else this.pages.push({ cursor: next, items: null, loading: false });
      }
      this.#forget(at);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.failed = error;
    } finally {
      page.loading = false;
    }
    this.onState?.({ rows: this.rows, ended: this.ended, failed: this.failed });
    if (generation === this.generation && at > 0) this.draw();
  }

  #forget(near) {
    const full = this.pages.map((page, at) => [at, page]).filter(([, page]) => page.items);
    if (full.length <= KEPT) return;
    full.sort(([a], [b]) => Math.abs(b - near) - Math.abs(a - near));
    for (const [, page] of full.slice(0, full.length - KEPT)) page.items = null;
  }

  draw() {
    const { scroller, rowHeight, rows } = this;
    const scale = this.#scale();
    const height = (rows * rowHeight) / scale;
    const top = Math.max(0, Math.min(scroller.scrollTop, height - 1));
    const first = Math.max(0, Math.floor((top * scale) / rowHeight) - SPARE);
    const last = Math.min(rows, Math.floor((top * scale + scroller.clientHeight) / rowHeight) + SPARE);
    for (let at = Math.floor(first / PAGE); at <= Math.floor(Math.max(first, last - 1) / PAGE); at++) this.#load(at);
    if (!this.ended && !this.failed && last > rows - PAGE / 2) this.#load(this.pages.length - 1);
    const before = scale === 1 ? first * rowHeight : Math.max(0, top - (Math.floor((top * scale) / rowHeight) - first) * rowHeight);
    const after = Math.max(0, height - before - (last - first) * rowHeight);
    const shown = [];
    for (let index = first; index < last; index++) {
      const item = this.item(index);
      shown.push(item ? this.render(item, index) : this.#blank());
    }
    const focused = this.body.contains(document.activeElement) ? document.activeElement.closest("tr")?.dataset.index : null;
    replace(this.body, this.#spacer(before), shown, this.#spacer(after));
    if (focused) this.body.querySelector(`tr[data-index="${focused}"]`)?.focus({ preventScroll: true });
  }

  #spacer(height) {
    return h("tr", { "aria-hidden": "true", class: "spacer" }, h("td", { style: { height: `${height}px` } }));
  }

  #blank() {
    return h("tr", { class: "blank" }, h("td", null, h("div", { class: "skeleton" })));
  }

  close() {
    this.generation++;
    this.aborts.abort();
    this.watcher.disconnect();
    this.scroller.removeEventListener("scroll", this.scroll);
  }
}
