"use strict";
// A chart works without this script; it only adds what a pointer or a finger is told.
window.addEventListener("error", (event) => {
  document.getElementById("script-error").textContent = `Script error: ${event.message}`;
});

// The point nearest the pointer: along x where points have no height, in the plane where they do.
function nearest(points, x, y) {
  const distance = (p) => (p[1] === null ? Math.abs(p[0] - x) : Math.hypot(p[0] - x, p[1] - y));
  return points.reduce((best, p) => (distance(p) < distance(best) ? p : best));
}

function listen(svg) {
  const points = JSON.parse(svg.dataset.points);
  if (points.length === 0) return;
  const figure = svg.closest("figure");
  const line = svg.querySelector(".pointer");
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  figure.append(tip);

  const hide = () => {
    tip.hidden = true;
    line.setAttribute("hidden", "");
  };
  const show = (event) => {
    const box = svg.getBoundingClientRect();
    const frame = figure.getBoundingClientRect();
    const scale = box.width / svg.viewBox.baseVal.width;
    const [x, , text] = nearest(points, (event.clientX - box.left) / scale, (event.clientY - box.top) / scale);
    line.setAttribute("x1", x);
    line.setAttribute("x2", x);
    line.removeAttribute("hidden");
    tip.textContent = text;
    tip.hidden = false;
    const left = box.left - frame.left + x * scale;
    const onLeft = left > frame.width / 2;
    tip.style.left = `${onLeft ? left - tip.offsetWidth - 10 : left + 10}px`;
    tip.style.top = `${Math.max(event.clientY - frame.top - tip.offsetHeight - 12, 0)}px`;
  };
  svg.addEventListener("pointermove", show);
  svg.addEventListener("pointerdown", show);
  svg.addEventListener("pointerleave", hide);
}

const charts = document.querySelectorAll("svg[data-points]");
charts.forEach(listen);
document.documentElement.dataset.charts = charts.length;
