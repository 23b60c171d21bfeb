// Boxes: proposals are accepted, moved or rejected, others drawn. All numbers are pixels of the upright image.
const SVG = 'http://www.w3.org/2000/svg';
const EDGE = 10; // pixels of the screen around a corner that take hold of it
const MOVED = 5; // pixels of the screen: less is a click
const RESTED = 500; // milliseconds after the last arrow key, when a move is sent
const COLOURS = { proposed: '#1d4ed8', accepted: '#15803d', added: '#15803d', moved: '#15803d', rejected: '#b91c1c' };
const overlay = document.createElementNS(SVG, 'svg');
overlay.setAttribute('aria-hidden', 'true');
const held = { chosen: 0, label: '', drag: null, timer: 0, was: null };

const isBoxes = () => Boolean(session) && session.kind === 'boxes';
const boxesOf = (one) => (one && one.task.boxes) || [];
const copied = (one) => boxesOf(one).map((box) => ({ ...box, xyxy: box.xyxy.slice() }));
const chosen = () => boxesOf(current)[held.chosen];
const isOpen = (box) => box.state === 'proposed';
const canJudge = () => isBoxes() && current && current.state === 'ready';

function stroke(deed, snapshot, rest) { // what undo needs, and what the server is told
  const seconds = Math.round(performance.now() - shownAt) / 1000;
  shownAt = performance.now();
  const one = current;
  note('');
  remember({ one, boxes: snapshot, number: put({ do: deed, image: one.task.id, seconds, ...rest }) });
  drawBoxes();
}
function settle() { // arrow keys come in rows: one stroke for all of them
  clearTimeout(held.timer);
  if (!held.was || !current) { held.was = null; return; }
  const { snapshot, box } = held.was;
  held.was = null;
  stroke('move', snapshot, { box: box.id, xyxy: box.xyxy.slice(), label: box.label });
}
function onward() { // to the next box that nobody has judged
  const all = boxesOf(current);
  const order = all.map((_, i) => (held.chosen + 1 + i) % all.length);
  const found = order.find((i) => isOpen(all[i]));
  if (found !== undefined) held.chosen = found;
  drawBoxes();
}
const boxDeeds = {
  accept() {
    const box = chosen();
    if (!box || !boxesOf(current).some(isOpen)) { boxDeeds.finish(); return; }
    if (!isOpen(box)) { onward(); return; }
    const snapshot = copied(current);
    box.state = 'accepted';
    stroke('accept', snapshot, { box: box.id });
    onward();
  },
  reject() {
    const box = chosen();
    if (!box || box.state === 'rejected') { onward(); return; }
    const snapshot = copied(current);
    box.state = 'rejected';
    stroke('reject', snapshot, { box: box.id });
    onward();
  },
  following() {
    const all = boxesOf(current);
    if (all.length) held.chosen = (held.chosen + 1) % all.length;
    drawBoxes();
  },
  add() {
    const [width, height] = current.task.size;
    drawn([width * 0.35, height * 0.35, width * 0.65, height * 0.65]);
  },
  finish() {
    const snapshot = copied(current);
    const one = current;
    for (const box of boxesOf(one)) if (isOpen(box)) box.state = 'accepted';
    done.add(one.task.id);
    stroke('done', snapshot, {});
    next();
  },
};
function boxDeed(name) {
  if (!canJudge()) return;
  settle();
  boxDeeds[name]();
}
function drawn(xyxy) {
  const snapshot = copied(current);
  const label = held.label || session.labels[0];
  const box = { id: `n${outbox.number + 1}`, xyxy: xyxy.map((side) => Math.round(side * 10) / 10), label, score: 1, state: 'added' };
  current.task.boxes = [...boxesOf(current), box];
  held.chosen = current.task.boxes.length - 1;
  stroke('add', snapshot, { xyxy: box.xyxy.slice(), label });
}
function called(label) { // names the chosen box, and those that are drawn from now on
  held.label = label;
  if (!canJudge()) { tellLabel(); return; }
  settle();
  const box = chosen();
  if (box && box.state !== 'rejected' && box.label !== label) {
    const snapshot = copied(current);
    Object.assign(box, { label, state: box.state === 'added' ? 'added' : 'moved', score: 1 });
    stroke('move', snapshot, { box: box.id, xyxy: box.xyxy.slice(), label });
  }
  tellLabel();
}
function tellLabel() {
  for (const button of part('answers').querySelectorAll('button')) {
    button.setAttribute('aria-pressed', String(button.dataset.answer === held.label));
  }
}
function shifted(box, left, top, right, bottom) {
  const [width, height] = current.task.size;
  const most = [width, height, width, height];
  const moved = [box[0] + left, box[1] + top, box[2] + right, box[3] + bottom];
  if (left === right && top === bottom) { // as a whole: it stops at the border
    const back = [0, 1].map((i) => Math.max(0, -moved[i]) - Math.max(0, moved[i + 2] - most[i]));
    return moved.map((side, i) => side + back[i % 2]);
  }
  const inside = moved.map((side, i) => Math.min(Math.max(side, 0), most[i]));
  return [Math.min(inside[0], inside[2] - 1), Math.min(inside[1], inside[3] - 1), Math.max(inside[2], inside[0] + 1),
    Math.max(inside[3], inside[1] + 1)];
}
function nudged(event) { // arrows move, with Shift they resize; true where the key was one of them
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const arrow = arrows[event.key];
  const box = chosen();
  if (!arrow || !canJudge() || !box || box.state === 'rejected') return false;
  const step = Math.max(1, Math.max(...current.task.size) / 200) * (event.repeat ? 2 : 1);
  const [x, y] = arrow.map((one) => one * step);
  if (!held.was || held.was.box !== box) { settle(); held.was = { snapshot: copied(current), box }; }
  box.xyxy = (event.shiftKey ? shifted(box.xyxy, 0, 0, x, y) : shifted(box.xyxy, x, y, x, y))
    .map((side) => Math.round(side * 10) / 10);
  if (box.state !== 'added') box.state = 'moved';
  box.score = 1;
  clearTimeout(held.timer);
  held.timer = setTimeout(settle, RESTED);
  drawBoxes();
  return true;
}

// --- mouse and finger -------------------------------------------------------------------------------------------
function place(event) {
  const [width, height] = current.task.size;
  const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(overlay.getScreenCTM().inverse());
  return [Math.min(Math.max(at.x, 0), width), Math.min(Math.max(at.y, 0), height)];
}
const unit = () => 1 / (overlay.getScreenCTM() || { a: 1 }).a; // image pixels per screen pixel
function grasped([x, y]) { // a corner of the chosen box, the smallest box around the point, or nothing
  const near = EDGE * unit();
  const box = chosen();
  if (box && box.state !== 'rejected') {
    for (const [i, j] of [[0, 1], [2, 1], [0, 3], [2, 3]]) {
      if (Math.abs(box.xyxy[i] - x) < near && Math.abs(box.xyxy[j] - y) < near) return { index: held.chosen, corner: [i, j] };
    }
  }
  const area = (one) => (one.xyxy[2] - one.xyxy[0]) * (one.xyxy[3] - one.xyxy[1]);
  const around = boxesOf(current).map((one, index) => ({ one, index })).filter(({ one }) => one.state !== 'rejected'
    && x >= one.xyxy[0] && x <= one.xyxy[2] && y >= one.xyxy[1] && y <= one.xyxy[3]);
  around.sort((a, b) => area(a.one) - area(b.one));
  return around.length ? { index: around[0].index, corner: null } : null;
}
stage.addEventListener('pointerdown', (event) => {
  if (!canJudge() || event.button) return;
  settle();
  const at = place(event);
  const taken = grasped(at);
  if (taken) held.chosen = taken.index;
  held.drag = { at, x: event.clientX, y: event.clientY, taken, snapshot: copied(current), now: null, one: current };
  stage.setPointerCapture(event.pointerId);
  drawBoxes();
});
stage.addEventListener('pointermove', (event) => {
  const { drag } = held;
  if (!drag || drag.one !== current) return;
  if (!drag.now && Math.hypot(event.clientX - drag.x, event.clientY - drag.y) < MOVED) return;
  const [x, y] = place(event);
  const [fromX, fromY] = drag.at;
  if (!drag.taken) drag.now = [Math.min(x, fromX), Math.min(y, fromY), Math.max(x, fromX), Math.max(y, fromY)];
  else {
    const was = drag.snapshot[drag.taken.index].xyxy;
    const by = [0, 0, 0, 0];
    if (drag.taken.corner) { by[drag.taken.corner[0]] = x - fromX; by[drag.taken.corner[1]] = y - fromY; }
    else by.splice(0, 4, x - fromX, y - fromY, x - fromX, y - fromY);
    drag.now = shifted(was, ...by).map((side) => Math.round(side * 10) / 10);
    chosen().xyxy = drag.now;
  }
  drawBoxes();
});
stage.addEventListener('pointerup', () => {
  const { drag } = held;
  held.drag = null;
  if (!drag || !drag.now || drag.one !== current) { if (isBoxes()) drawBoxes(); return; }
  if (!drag.taken) {
    if (drag.now[2] - drag.now[0] >= 1 && drag.now[3] - drag.now[1] >= 1) drawn(drag.now);
    else drawBoxes();
    return;
  }
  const box = chosen();
  Object.assign(box, { state: box.state === 'added' ? 'added' : 'moved', score: 1 });
  stroke('move', drag.snapshot, { box: box.id, xyxy: box.xyxy.slice(), label: box.label });
});
stage.addEventListener('pointercancel', () => {
  if (held.drag && held.drag.one === current && held.drag.taken) current.task.boxes = held.drag.snapshot;
  held.drag = null;
  if (isBoxes()) drawBoxes();
});

// --- drawing ----------------------------------------------------------------------------------------------------
function node(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  overlay.appendChild(made);
  return made;
}
function frame([left, top, right, bottom], colour, width, dashes) {
  const size = { x: left, y: top, width: right - left, height: bottom - top, fill: 'none', 'vector-effect': 'non-scaling-stroke' };
  node('rect', { ...size, stroke: '#fff', 'stroke-width': width + 2 });
  node('rect', { ...size, stroke: colour, 'stroke-width': width, 'stroke-dasharray': dashes });
}
function drawBoxes() {
  overlay.replaceChildren();
  if (!canJudge()) { part('boxlist').replaceChildren(); return; }
  const [width, height] = current.task.size;
  overlay.setAttribute('viewBox', `0 0 ${width} ${height}`);
  const one = unit();
  boxesOf(current).forEach((box, i) => {
    const isChosen = i === held.chosen;
    if (box.state === 'rejected' && !isChosen) return;
    frame(box.xyxy, COLOURS[box.state], isChosen ? 3.5 : 2, isOpen(box) || box.state === 'rejected' ? '7 4' : '0');
    const size = 13 * one;
    const text = `${i + 1} ${box.label}`;
    const y = Math.max(box.xyxy[1], size * 1.4);
    node('rect', { x: box.xyxy[0], y: y - size * 1.4, width: size * (0.62 * text.length + 1), height: size * 1.4,
      fill: COLOURS[box.state] });
    node('text', { x: box.xyxy[0] + size * 0.4, y: y - size * 0.4, 'font-size': size, fill: '#fff' }, text);
    if (!isChosen || box.state === 'rejected') return;
    for (const [x, at] of [[0, 1], [2, 1], [0, 3], [2, 3]]) {
      node('circle', { cx: box.xyxy[x], cy: box.xyxy[at], r: 5 * one, fill: '#fff', stroke: COLOURS[box.state],
        'stroke-width': 2 * one });
    }
  });
  if (held.drag && held.drag.now && !held.drag.taken) frame(held.drag.now, COLOURS.added, 2, '4 3');
  const rows = boxesOf(current).map((box, i) => {
    const row = document.createElement('li');
    const button = document.createElement('button');
    button.type = 'button';
    button.dataset.box = String(i);
    if (i === held.chosen) button.setAttribute('aria-current', 'true');
    const label = box.score < 1 ? say('scored', box.label, Math.round(box.score * 100)) : box.label;
    button.textContent = say('box', i + 1, label, say(`state_${box.state}`));
    row.append(button);
    return row;
  });
  part('boxlist').replaceChildren(...rows);
  desk.dataset.boxes = boxesOf(current).map((box) => box.state).join(' ');
}
part('boxlist').addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button || !canJudge()) return;
  settle();
  held.chosen = Number(button.dataset.box);
  drawBoxes();
  stage.focus({ preventScroll: true });
});
function showBoxes() { // another picture has come
  held.chosen = Math.max(0, boxesOf(current).findIndex(isOpen));
  held.drag = null;
  if (isBoxes() && current && current.state === 'ready') part('picture').append(overlay);
  drawBoxes();
}
function renamed(named) { // boxes that were drawn here have got their ids
  const tasks = [current, ...ahead, ...past.map((one) => one.one)];
  const lists = [...tasks.filter(Boolean).map((one) => one.task.boxes || []), ...past.map((one) => one.boxes || [])];
  for (const list of lists) for (const box of list) if (named[box.id]) box.id = named[box.id];
  for (const one of outbox.strokes) if (named[one.box]) one.box = named[one.box];
}
new ResizeObserver(() => { if (isBoxes()) drawBoxes(); }).observe(stage);
