// Points by clicking, boxes by dragging; arrows and Enter do both. All numbers are pixels of the picture.
const root = element.querySelector('.pointing');
const stage = root.querySelector('.stage');
const image = root.querySelector('img');
const svg = root.querySelector('svg');
const count = root.querySelector('.count');
const MOVED = 6; // pixels of the screen: less is a click
let shown = { picture: '', width: 0, height: 0 };
let points = [];
let boxes = [];
let order = []; // 'p' and 'b', as they came
let stamp = 0;
let tool = 'yes';
let cross = null; // of the keyboard
let from = null; // where a drag or a box of the keyboard began
let to = null;
let pressed = null;

const make = (name, attributes) => {
  const node = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  svg.appendChild(node);
  return node;
};
const frame = (box, dashes) => {
  const [left, top, right, bottom] = box;
  const size = { x: left, y: top, width: right - left, height: bottom - top, fill: 'none' };
  make('rect', { ...size, stroke: '#fff', 'stroke-width': 4, 'vector-effect': 'non-scaling-stroke' });
  make('rect', { ...size, stroke: '#1d4ed8', 'stroke-width': 2, 'vector-effect': 'non-scaling-stroke',
    'stroke-dasharray': dashes });
};
const corners = (a, b) => [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[0], b[0]), Math.max(a[1], b[1])];

function draw() {
  svg.replaceChildren();
  if (!shown.width) return;
  svg.setAttribute('viewBox', `0 0 ${shown.width} ${shown.height}`);
  const unit = shown.width / (image.clientWidth || shown.width); // picture pixels per screen pixel
  for (const box of boxes) frame(box, '0');
  if (from && to) frame(corners(from, to), '4 3');
  for (const [x, y, sign] of points) {
    const r = 8 * unit;
    make('circle', { cx: x, cy: y, r, fill: sign ? '#15803d' : '#b91c1c', stroke: '#fff', 'stroke-width': 2 * unit });
    const bar = { stroke: '#fff', 'stroke-width': 2 * unit };
    make('line', { x1: x - r / 2, x2: x + r / 2, y1: y, y2: y, ...bar });
    if (sign) make('line', { x1: x, x2: x, y1: y - r / 2, y2: y + r / 2, ...bar });
  }
  if (cross && document.activeElement === stage) {
    for (const [stroke, width] of [['#fff', 4], ['#000', 1.5]]) {
      make('line', { x1: cross[0], x2: cross[0], y1: 0, y2: shown.height, stroke, 'stroke-width': width * unit });
      make('line', { x1: 0, x2: shown.width, y1: cross[1], y2: cross[1], stroke, 'stroke-width': width * unit });
    }
  }
  count.textContent = points.length || boxes.length
    ? props.counted.replace('{0}', points.length).replace('{1}', boxes.length) : '';
}
function tell() {
  stamp += 1;
  props.value = { ...props.value, points: points.slice(), boxes: boxes.slice(), stamp };
  draw();
  trigger('input');
}
function choose(name) {
  tool = name;
  stage.dataset.tool = name;
  from = to = null;
  root.querySelectorAll('[data-tool]').forEach((one) => {
    if (one !== stage) one.setAttribute('aria-pressed', String(one.dataset.tool === name));
  });
  draw();
}
function addPoint(at, sign) { points.push([...at, sign]); order.push('p'); tell(); }
function addBox(a, b) {
  const box = corners(a, b);
  from = to = null;
  if (box[2] - box[0] < 1 || box[3] - box[1] < 1) { draw(); return; }
  boxes.push(box);
  order.push('b');
  tell();
}
function undo() {
  if (!order.length) return;
  (order.pop() === 'p' ? points : boxes).pop();
  tell();
}
function clear() {
  if (!order.length) return;
  points = []; boxes = []; order = [];
  tell();
}
function place(event) {
  const area = image.getBoundingClientRect();
  const x = (event.clientX - area.left) / area.width * shown.width;
  const y = (event.clientY - area.top) / area.height * shown.height;
  const most = [shown.width - 0.01, shown.height - 0.01];
  return [x, y].map((value, i) => Math.round(Math.min(Math.max(value, 0), most[i]) * 10) / 10);
}

stage.addEventListener('pointerdown', (event) => {
  if (!shown.width || event.button > 2) return;
  pressed = { x: event.clientX, y: event.clientY, at: place(event), isNo: event.button === 2 };
  if (event.pointerType === 'mouse' || tool === 'box') stage.setPointerCapture(event.pointerId);
});
stage.addEventListener('pointermove', (event) => {
  if (!pressed || (event.pointerType !== 'mouse' && tool !== 'box')) return;
  if (Math.hypot(event.clientX - pressed.x, event.clientY - pressed.y) < MOVED) return;
  from = pressed.at;
  to = place(event);
  draw();
});
stage.addEventListener('pointerup', (event) => {
  if (!pressed) return;
  const { at, isNo } = pressed;
  pressed = null;
  if (from && to) addBox(from, place(event));
  else if (tool !== 'box') addPoint(at, tool === 'no' || isNo ? 0 : 1);
});
stage.addEventListener('pointercancel', () => { pressed = from = to = null; draw(); });
stage.addEventListener('contextmenu', (event) => event.preventDefault());
stage.addEventListener('focus', draw);
stage.addEventListener('blur', draw);
stage.addEventListener('keydown', (event) => {
  if (!shown.width) return;
  const step = (event.shiftKey ? 10 : 1) * Math.max(shown.width, shown.height) / 100;
  const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
  const key = event.key;
  if (moves[key]) {
    cross = cross || [shown.width / 2, shown.height / 2];
    const most = [shown.width - 1, shown.height - 1];
    cross = cross.map((value, i) => Math.round(Math.min(Math.max(value + moves[key][i], 0), most[i]) * 10) / 10);
    if (from && tool === 'box') to = cross.slice();
    draw();
  } else if (key === 'Enter' || key === ' ') {
    cross = cross || [shown.width / 2, shown.height / 2];
    if (tool !== 'box') addPoint(cross, tool === 'no' ? 0 : 1);
    else if (from) addBox(from, cross);
    else { from = cross.slice(); to = cross.slice(); draw(); }
  } else if (key === 'Backspace' || key === 'Delete') undo();
  else if (key === 'Escape') { from = to = null; draw(); return; }
  else return;
  event.preventDefault();
});
root.querySelector('.tools').addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button) return;
  if (button.dataset.tool) choose(button.dataset.tool);
  else if (button.dataset.act === 'undo') undo();
  else clear();
});
image.addEventListener('load', draw);
new ResizeObserver(draw).observe(image);

function take() {
  const value = props.value;
  root.hidden = !value;
  if (!value) { shown = { picture: '', width: 0, height: 0 }; points = []; boxes = []; order = []; stamp = 0; return; }
  if (value.picture !== shown.picture || value.stamp >= stamp) {
    points = value.points.slice();
    boxes = value.boxes.slice();
    if (value.picture !== shown.picture || order.length !== points.length + boxes.length) {
      order = [...points.map(() => 'p'), ...boxes.map(() => 'b')];
      cross = from = to = null;
    }
    stamp = value.stamp;
  } else {
    props.value = { ...value, points: points.slice(), boxes: boxes.slice(), stamp };
  }
  shown = { picture: value.picture, width: value.width, height: value.height };
  if (image.getAttribute('src') !== value.source) image.setAttribute('src', value.source);
  draw();
}
watch('value', take);
take();
