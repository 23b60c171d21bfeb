// Labelling by keystroke. A stroke shows the next picture at once and is sent behind it, in order, until it is saved.
const desk = element.querySelector('.desk');
const part = (name) => desk.querySelector(`.${name}`);
const stage = part('stage');
const texts = props.texts;
const say = (key, ...values) => texts[key].replace(/\{(\d)\}/g, (all, i) => String(values[i] ?? ''));
const base = location.pathname.replace(/\/[a-z]{2}\/?$/, '/label/');
const language = props.language;
const KEPT = 'anmok-label';
const NAME = 'anmok-labeller';
const AHEAD = 8; // pictures that are loaded before they are shown
const PATIENCE = 10000; // milliseconds that an answer of the server may take
const DIGITS = 10;
const PICTURES = 30; // that are kept behind, for an undo that shows at once

let session = null; // room, place, kind, labels, model
let by = '';
let ahead = []; // {task, image, ready}
let current = null;
let shownAt = 0;
let count = 0; // pictures shown so far
let past = []; // strokes of this page that can be taken back: {one, number}
let done = new Set(); // ids that were answered here
let isAsking = false;
let isAtEnd = false;
let standingAt = 0;

// --- pictures ahead ---------------------------------------------------------------------------------------------
function loaded(task) {
  const image = new Image();
  image.decoding = 'async';
  image.draggable = false;
  const one = { task, image, state: 'coming' };
  const address = `${base}${session.room}/pictures/${task.id}`;
  const load = async (wait) => {
    image.src = address;
    try {
      await image.decode();
      one.state = 'ready';
    } catch (error) {
      const answer = await fetch(address, { method: 'GET' }).catch(() => null);
      if (answer === null || answer.status >= 500 || [401, 404].includes(answer.status)) { // the server is away
        if (answer !== null && answer.status === 404) await opened().catch(() => null);
        await pause(wait);
        if (session && done.has(task.id) === false) { image.removeAttribute('src'); load(Math.min(wait * 2, 5000)); }
        return;
      }
      if (answer.ok && wait < 2000) { load(wait * 2); return; }
      one.state = 'broken';
    }
    if (current === one) show();
  };
  load(400);
  return one;
}
async function fill() {
  if (isAsking || !session || !by || ahead.length >= AHEAD) return;
  isAsking = true;
  const mine = session;
  try {
    const wanted = Math.min(AHEAD + outbox.strokes.length + 1, 32);
    const found = await asked(`next?count=${wanted}&by=${encodeURIComponent(by)}`);
    if (session !== mine) return;
    for (const task of found.tasks) {
      const isKnown = done.has(task.id) || (current && current.task.id === task.id)
        || ahead.some((one) => one.task.id === task.id);
      if (!isKnown && task.ready !== false && ahead.length < AHEAD) ahead.push(loaded(task));
    }
    isAtEnd = found.tasks.length < wanted && !found.tasks.some((task) => task.ready === false);
    if (found.tasks.some((task) => task.ready === false)) fillLater(700);
    if (outbox.isDown && !outbox.strokes.length) setDown('');
    if (!current) next();
  } catch (error) {
    if (error instanceof Told && error.status !== 401) note(error.message);
    else setDown(why(error));
    fillLater(1000);
  } finally { isAsking = false; }
}
function fillLater(wait) {
  clearTimeout(fill.timer);
  fill.timer = setTimeout(fill, wait);
}
function before(one) {
  if (current) ahead.unshift(current);
  current = one.image ? one : loaded(one.task);
  isAtEnd = false;
  show();
}
function next() {
  current = ahead.shift() || null;
  show();
  fill();
}
function hintOf(task) {
  if (isBoxes()) return `${task.stream}_boxes`;
  return task.stream === 'teach' && !task.chosen ? 'teach_random' : `${task.stream}_hint`;
}
function show() {
  const picture = part('picture');
  const mark = part('mark');
  const task = current && current.task;
  const isReady = current && current.state === 'ready';
  if (isReady) {
    current.image.alt = say('picture', count + 1);
    picture.replaceChildren(current.image);
  } else {
    const text = document.createElement('p');
    text.className = 'empty';
    const none = isAtEnd ? 'done' : isBoxes() ? 'proposing' : 'loading';
    text.textContent = say(!current ? none : current.state === 'broken' ? 'broken' : 'loading');
    picture.replaceChildren(text);
  }
  mark.dataset.stream = task ? task.stream : '';
  mark.querySelector('b').hidden = !task;
  mark.querySelector('b').textContent = task ? say(task.stream) : '';
  mark.querySelector('span').textContent = task ? say(hintOf(task)) : '';
  const best = task && task.proposals[0];
  part('guess').textContent = best ? say('guess', best[0], Math.round(best[1] * 100)) : '';
  desk.dataset.shown = task && current.state !== 'coming' ? task.id : '';
  desk.dataset.stream = task ? task.stream : '';
  desk.dataset.ahead = String(ahead.filter((one) => one.state === 'ready').length);
  if (isReady) { shownAt = performance.now(); count += 1; }
  showBoxes();
}

// --- strokes ----------------------------------------------------------------------------------------------------
function answer(what, button) {
  if (!current || current.state === 'coming') return;
  const one = current;
  const seconds = Math.round(performance.now() - shownAt) / 1000;
  done.add(one.task.id);
  note('');
  flash(button);
  next();
  remember({ one, number: put({ do: 'answer', image: one.task.id, answer: what, seconds }) });
}
function remember(stroke) {
  past.push(stroke);
  const old = past[past.length - 1 - PICTURES];
  if (old && old.one !== current && !ahead.includes(old.one)) old.one = { task: old.one.task, image: null };
}
function undo(button) {
  flash(button);
  if (isBoxes()) settle();
  const last = past.pop();
  if (!last) { put({ do: 'undo' }); return; }
  const waits = outbox.strokes.findIndex((one) => one.n === last.number);
  done.delete(last.one.task.id);
  if (waits >= 0 && last.number > outbox.tried) { // it never left this page
    outbox.strokes.splice(waits, 1);
    keepOutbox();
    tellSaved();
  } else put({ do: 'undo', image: last.one.task.id });
  if (last.boxes) last.one.task.boxes = last.boxes;
  if (current && current.task.id === last.one.task.id) drawBoxes();
  else before(last.one);
}
function flash(button) {
  if (!button) return;
  button.classList.add('hit');
  setTimeout(() => button.classList.remove('hit'), 140);
}
const isVisible = () => session && by && desk.offsetParent !== null && !desk.hidden;
function buttonOf(event) {
  const letter = (/^[a-z]$/i.test(event.key) ? event.key : event.code.replace(/^Key/, '')).toUpperCase();
  const digit = /^(Digit|Numpad)(\d)$/.exec(event.code);
  const name = digit ? digit[2] : letter;
  const isIt = (one) => one.offsetParent !== null && one.dataset.keys.split(' ').includes(name);
  return [...desk.querySelectorAll('[data-keys]')].find(isIt);
}
document.addEventListener('keydown', (event) => {
  const target = event.target instanceof Element ? event.target : document.body;
  if (!isVisible() || event.defaultPrevented || event.altKey || event.metaKey) return;
  if (target.closest('input, textarea, select, [contenteditable]')) return;
  if (event.ctrlKey) {
    if (event.code !== 'KeyZ' || event.shiftKey) return;
    event.preventDefault();
    if (!event.repeat) undo(part('undo'));
    return;
  }
  if (isBoxes() && nudged(event)) { event.preventDefault(); return; }
  const isOnButton = target.closest('button, summary, a');
  if (isOnButton && (event.code === 'Space' || event.code === 'Enter')) return; // that is the button's own
  const button = buttonOf(event);
  if (!button) return;
  event.preventDefault();
  if (!event.repeat) act(button);
});
function act(button) {
  if (button.dataset.act === 'undo') undo(button);
  else if (button.dataset.act) { flash(button); boxDeed(button.dataset.act); }
  else if (isBoxes()) called(button.dataset.answer);
  else answer(button.dataset.answer, button);
}
desk.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button || !session) return;
  if (button.dataset.keys !== undefined) {
    act(button);
    if (event.detail) stage.focus({ preventScroll: true }); // a mouse: Space is the skip key again
  } else if (button.dataset.act === 'rename') askName();
  else if (button.dataset.act === 'leave') leave();
});

// --- who, where, and how it stands ------------------------------------------------------------------------------
function askName() {
  part('who').hidden = false;
  part('work').hidden = part('standing').hidden = true;
  part('who').querySelector('input').value = by;
  part('who').querySelector('input').focus();
}
part('who').addEventListener('submit', (event) => {
  event.preventDefault();
  const name = part('who').querySelector('input').value.trim();
  if (!name) return;
  keep(localStorage, NAME, name);
  begin(name);
});
function begin(name) {
  if (name !== by) { ahead = []; current = null; past = []; done = unsent(); isAtEnd = false; }
  by = name;
  part('by').textContent = say('by', by);
  part('who').hidden = true;
  part('work').hidden = part('standing').hidden = false;
  stage.focus({ preventScroll: true });
  if (!current) show();
  send();
  fill();
}
function leave() {
  if (outbox.strokes.length) { note(say('waiting', outbox.strokes.length)); return; }
  forget(localStorage, KEPT);
  session = null;
  desk.hidden = true;
  props.value = null;
  trigger('input');
}
function enter(value) {
  session = value;
  ahead = []; current = null; past = []; isAtEnd = false; by = ''; count = 0;
  keep(localStorage, KEPT, JSON.stringify(value));
  openOutbox();
  setDown('');
  note('');
  for (const group of desk.querySelectorAll('[data-for]')) group.hidden = group.dataset.for !== session.kind;
  stage.dataset.kind = session.kind;
  held.label = '';
  drawAnswers();
  part('standing').replaceChildren();
  desk.hidden = false;
  tellSaved();
  const name = kept(localStorage, NAME);
  if (name) begin(name); else askName();
  refresh();
}
function drawAnswers() {
  const letters = session.labels.length === 2 && !isBoxes() ? ['F', 'J'] : [];
  part('answers').setAttribute('aria-label', say(isBoxes() ? 'names' : 'answers'));
  const buttons = session.labels.map((label, i) => {
    const digit = i < DIGITS ? String((i + 1) % 10) : '';
    const keys = [letters[i], digit].filter(Boolean);
    const button = document.createElement('button');
    button.type = 'button';
    button.dataset.answer = label;
    button.dataset.keys = keys.join(' ');
    if (keys.length) {
      const key = document.createElement('kbd');
      key.textContent = keys[0];
      button.append(key);
    }
    button.append(label);
    return button;
  });
  part('answers').replaceChildren(...buttons);
}
async function refresh() {
  const at = performance.now();
  if (!session || at - standingAt < 900) {
    if (session && !refresh.timer) refresh.timer = setTimeout(() => { refresh.timer = 0; refresh(); }, 900);
    return;
  }
  standingAt = at;
  try {
    const found = await asked('standing');
    const open = part('standing').querySelector('details[open]');
    part('standing').innerHTML = found.html; // the server escapes every word in it
    if (open && part('standing').querySelector('details')) part('standing').querySelector('details').open = true;
  } catch (error) { /* the next one will tell */ }
}
setInterval(() => {
  if (!isVisible() || document.hidden) return;
  refresh();
  if (!current) fill(); // somebody else may have left something
}, 4000);
window.addEventListener('online', send);
window.addEventListener('beforeunload', (event) => { if (outbox.strokes.length) event.preventDefault(); });
