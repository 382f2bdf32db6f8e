// Points of a 2-D embedding on a canvas: zoom, pan, pick one, or draw a lasso around many.

import { alpha } from "../colour.js";
import { h, onResize, surface, token } from "../dom.js";

const MARGIN = 26; // CSS px around the points

/**
 * `scatter({label, axes, onPick(index), onLasso(indices), onHover(index, x, y)})` returns
 * {node, set(points), show(hidden), select(indices), lasso(on), zoom(factor), reset(), close()}.
 * `points`: [{x, y, group, colour, shape, ring}]; `labels`: group -> text, printed at the middle of its points.
 */
export function scatter({ label, onPick = () => {}, onLasso = () => {}, onHover = () => {} }) {
  const canvas = h("canvas", { class: "scatter-canvas", tabindex: 0, role: "img", "aria-label": label });
  const node = h("div", { class: "scatter" }, canvas);
  const view = { points: [], labels: new Map(), hidden: new Set(), selected: new Set(), x: 0, y: 0, scale: 1, base: null, lasso: false, path: [], hover: -1 };
  let size = [0, 0];
  let frame = 0;
  const paint = () => { frame ||= requestAnimationFrame(() => { frame = 0; draw(canvas, size, view); }); };
  const at = (point) => place(view, size, point);
  const nearest = (x, y, reach) => {
    let best = -1;
    let least = reach * reach;
    view.points.forEach((point, index) => {
      if (view.hidden.has(point.group)) return;
      const [px, py] = at(point);
      const far = (px - x) ** 2 + (py - y) ** 2;
      if (far < least) [best, least] = [index, far];
    });
    return best;
  };
  const zoom = (factor, x = size[0] / 2, y = size[1] / 2) => {
    const scale = Math.min(200, Math.max(1, view.scale * factor));
    const real = scale / view.scale;
    view.x = x - (x - view.x) * real;
    view.y = y - (y - view.y) * real;
    view.scale = scale;
    hold(view, size);
    paint();
  };
  const pan = (x, y) => { view.x += x; view.y += y; hold(view, size); paint(); };
  const finish = () => {
    const inside = view.path.length > 2 ? within(view, size) : [];
    view.path = [];
    view.selected = new Set(inside);
    paint();
    onLasso(inside);
  };
  gestures(canvas, { view, nearest, zoom, pan, paint, finish, onPick, onHover });
  const stop = onResize(node, (width, height) => { size = [width, height]; hold(view, size); paint(); });
  return {
    node,
    set(points, labels = new Map()) {
      Object.assign(view, { points, labels, base: frameOf(points), selected: new Set(), hover: -1 });
      paint();
    },
    hide(groups) { view.hidden = groups; paint(); },
    select(indices) { view.selected = new Set(indices); paint(); },
    lasso(on) { view.lasso = on; canvas.classList.toggle("lassoing", on); },
    zoom,
    reset() { Object.assign(view, { x: 0, y: 0, scale: 1 }); paint(); },
    close() { stop(); cancelAnimationFrame(frame); },
  };
}

function frameOf(points) {
  let [left, right, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
  for (const { x, y } of points) {
    left = Math.min(left, x);
    right = Math.max(right, x);
    low = Math.min(low, y);
    high = Math.max(high, y);
  }
  return { left, low, width: right - left || 1, height: high - low || 1 };
}

function place(view, [width, height], { x, y }) {
  const { base } = view;
  const px = MARGIN + ((x - base.left) / base.width) * (width - 2 * MARGIN);
  const py = height - MARGIN - ((y - base.low) / base.height) * (height - 2 * MARGIN);
  return [view.x + px * view.scale, view.y + py * view.scale];
}

/** Keeps the points in reach of the view. */
function hold(view, [width, height]) {
  view.x = Math.min(0, Math.max(width * (1 - view.scale), view.x));
  view.y = Math.min(0, Math.max(height * (1 - view.scale), view.y));
}

/** Which points lie within the path (even-odd rule). */
function within(view, size) {
  const { path } = view;
  return view.points.flatMap((point, index) => {
    if (view.hidden.has(point.group)) return [];
    const [x, y] = place(view, size, point);
    let inside = false;
    for (let one = 0, other = path.length - 1; one < path.length; other = one++) {
      const [ax, ay] = path[one];
      const [bx, by] = path[other];
      if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
    }
    return inside ? [index] : [];
  });
}

function draw(canvas, size, view) {
  if (!size[0]) return;
  const context = surface(canvas, ...size);
  const radius = (view.points.length > 2000 ? 2.2 : 3.2) * Math.min(2, view.scale ** 0.25);
  const some = view.selected.size > 0;
  context.lineWidth = 1.4;
  view.points.forEach((point, index) => {
    if (view.hidden.has(point.group)) return;
    const [x, y] = place(view, size, point);
    if (x < -9 || y < -9 || x > size[0] + 9 || y > size[1] + 9) return;
    const strong = view.selected.has(index);
    mark(context, x, y, strong ? radius * 1.5 : radius, point.shape);
    context.fillStyle = alpha(point.colour, some && !strong ? 0.22 : 0.82);
    context.fill();
    if (point.ring || strong) {
      context.strokeStyle = strong ? token("--fg") : token("--novel");
      context.stroke();
    }
  });
  names(context, size, view);
  lassoLine(context, view);
}

/** One of four shapes, so that two clusters of one colour stay apart. */
function mark(context, x, y, r, shape = 0) {
  context.beginPath();
  if (shape === 1) context.rect(x - r * 0.9, y - r * 0.9, r * 1.8, r * 1.8);
  else if (shape === 2 || shape === 3) {
    const corners = shape === 2 ? [[0, -1.25], [1.15, 0.85], [-1.15, 0.85]] : [[0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]];
    corners.forEach(([dx, dy], at) => context[at ? "lineTo" : "moveTo"](x + dx * r, y + dy * r));
    context.closePath();
  } else context.arc(x, y, r, 0, 7);
}

function names(context, size, view) {
  if (!view.labels.size) return;
  const middles = new Map();
  for (const point of view.points) {
    if (view.hidden.has(point.group)) continue;
    const list = middles.get(point.group) ?? [[], []];
    const [x, y] = place(view, size, point);
    list[0].push(x);
    list[1].push(y);
    middles.set(point.group, list);
  }
  context.font = `600 12px ${token("--sans")}`;
  context.textAlign = "center";
  context.lineWidth = 4;
  context.lineJoin = "round";
  const taken = [];
  for (const [group, [xs, ys]] of middles) {
    const text = view.labels.get(group);
    if (!text) continue;
    const x = median(xs);
    let y = median(ys);
    const wide = context.measureText(text).width;
    while (taken.some(([tx, ty, tw]) => Math.abs(tx - x) < (tw + wide) / 2 + 4 && Math.abs(ty - y) < 15)) y += 15;
    taken.push([x, y, wide]);
    context.strokeStyle = token("--card");
    context.strokeText(text, x, y);
    context.fillStyle = token("--fg");
    context.fillText(text, x, y);
  }
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1];
}

function lassoLine(context, view) {
  if (view.path.length < 2) return;
  context.beginPath();
  view.path.forEach(([x, y], at) => context[at ? "lineTo" : "moveTo"](x, y));
  context.closePath();
  context.fillStyle = alpha(token("--accent"), 0.12);
  context.fill();
  context.setLineDash([5, 4]);
  context.strokeStyle = token("--accent");
  context.lineWidth = 1.5;
  context.stroke();
  context.setLineDash([]);
}

/** Pointer, wheel and keys. */
function gestures(canvas, { view, nearest, zoom, pan, paint, finish, onPick, onHover }) {
  const down = new Map();
  let moved = 0;
  const local = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    canvas.setPointerCapture(event.pointerId);
    down.set(event.pointerId, local(event));
    moved = 0;
    view.path = (view.lasso || event.shiftKey) && down.size === 1 ? [local(event)] : [];
  });
  canvas.addEventListener("pointermove", (event) => {
    const now = local(event);
    const before = down.get(event.pointerId);
    if (!before) {
      onHover(nearest(...now, 12), event.clientX, event.clientY);
      return;
    }
    const [dx, dy] = [now[0] - before[0], now[1] - before[1]];
    moved += Math.abs(dx) + Math.abs(dy);
    if (down.size === 2) {
      const [other] = [...down].filter(([id]) => id !== event.pointerId).map(([, where]) => where);
      const far = (where) => Math.hypot(where[0] - other[0], where[1] - other[1]) || 1;
      zoom(far(now) / far(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    } else if (view.path.length) {
      view.path.push(now);
      paint();
    } else pan(dx, dy);
    down.set(event.pointerId, now);
  });
  const up = (event) => {
    if (!down.delete(event.pointerId)) return;
    if (moved < 5) {
      view.path = [];
      const found = nearest(...local(event), 14);
      if (found >= 0) onPick(found);
    } else if (view.path.length) finish();
  };
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", (event) => { down.delete(event.pointerId); view.path = []; paint(); });
  canvas.addEventListener("pointerleave", () => onHover(-1, 0, 0));
  canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoom(Math.exp(-event.deltaY / 300), ...local(event)); }, { passive: false });
  canvas.addEventListener("dblclick", (event) => zoom(2, ...local(event)));
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] }[event.key];
    if (!step) return;
    event.preventDefault();
    pan(...step);
  });
}
