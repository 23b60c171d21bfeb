// Strokes on their way: kept in the page until the server has them on the disk. Belongs to desk.js.
// --- what a browser keeps: private windows may refuse -----------------------------------------------------------
const keep = (store, key, value) => { try { store.setItem(key, value); } catch (error) { /* only for this page */ } };
const kept = (store, key) => { try { return store.getItem(key); } catch (error) { return null; } };
const forget = (store, key) => { try { store.removeItem(key); } catch (error) { /* nothing was kept */ } };
const parsed = (text) => { try { return JSON.parse(text); } catch (error) { return null; } };

// --- asking the server ------------------------------------------------------------------------------------------
class Told extends Error { // the server answered, but not with what was wanted
  constructor(status, content) {
    super(typeof content.error === 'string' ? content.error : String(status));
    this.status = status;
  }
}
async function ask(path, content) {
  const ends = new AbortController();
  const timer = setTimeout(() => ends.abort(), PATIENCE);
  const sent = content === undefined ? {} : { method: 'POST', headers: { 'content-type': 'application/json' },
    body: JSON.stringify(content) };
  try {
    const sign = path.includes('?') ? '&' : '?';
    const answer = await fetch(`${base}${path}${sign}lang=${language}`, { ...sent, signal: ends.signal });
    const said = await answer.json();
    if (!answer.ok) throw new Told(answer.status, said);
    return said;
  } finally { clearTimeout(timer); }
}
const opened = () => {
  const { place: where, kind, labels, model } = session;
  return ask('open', { place: where, kind, labels, model });
};
async function asked(path, content) { // a server that was started again has to open the session first
  try {
    return await ask(`${session.room}/${path}`, content);
  } catch (error) {
    if (!(error instanceof Told) || error.status !== 404) throw error;
    await opened();
    return ask(`${session.room}/${path}`, content);
  }
}
const pause = (milliseconds) => new Promise((go) => setTimeout(go, milliseconds));

// --- strokes on their way ---------------------------------------------------------------------------------------
const RECENT = 20; // saved strokes by which a server that was killed is told how far it came
const outbox = { client: '', number: 0, saved: 0, tried: 0, strokes: [], recent: [], isBusy: false, isAgain: false,
  isDown: false };
const boxKey = () => `anmok-label-${session.room}`;
function keepOutbox() {
  const { client, number, saved, tried, strokes, recent } = outbox;
  keep(sessionStorage, boxKey(), JSON.stringify({ client, number, saved, tried, strokes, recent }));
}
function openOutbox() {
  const old = parsed(kept(sessionStorage, boxKey()));
  const fresh = { client: crypto.randomUUID ? crypto.randomUUID() : String(Math.random()).slice(2), number: 0, saved: 0,
    tried: 0, strokes: [], recent: [] };
  // Always another client: a browser copies what it keeps when it copies a tab, and two must not count as one.
  Object.assign(outbox, old && Array.isArray(old.strokes) ? { ...old, client: fresh.client } : fresh);
  outbox.isAgain = outbox.strokes.length > 0;
  done = unsent();
}
function unsent() { // pictures whose answer the server does not know yet
  return new Set(outbox.strokes.filter((one) => ['answer', 'done'].includes(one.do)).map((one) => one.image));
}
function put(stroke) {
  outbox.number += 1;
  outbox.strokes.push({ n: outbox.number, by, ...stroke });
  keepOutbox();
  tellSaved();
  send();
  return outbox.number;
}
async function send() {
  if (outbox.isBusy || !session) return;
  outbox.isBusy = true;
  const mine = session;
  let wait = 400;
  while (outbox.strokes.length && session === mine) {
    const who = outbox.strokes[0].by;
    const until = outbox.strokes.findIndex((one) => one.by !== who);
    const now = outbox.strokes.slice(0, Math.min(until < 0 ? 100 : until, 100));
    outbox.tried = now[now.length - 1].n;
    try {
      const before = outbox.isAgain ? { before: outbox.recent.filter((one) => one.by === who) } : {};
      const content = { by: who, client: outbox.client, strokes: now, ...before };
      const written = await asked('strokes', content);
      if (session !== mine) break;
      take(written);
      outbox.isAgain = false;
      wait = 400;
      if (outbox.isDown) { setDown(''); note(say('back')); fill(); }
    } catch (error) {
      if (session !== mine) break;
      outbox.isAgain = true; // it may have arrived all the same
      setDown(why(error));
      await pause(wait);
      wait = Math.min(wait * 2, 5000);
    }
  }
  outbox.isBusy = false;
  if (session !== mine) send();
}
function take(written) {
  const undos = new Map(outbox.strokes.map((one) => [one.n, one.image]));
  const refused = new Set(written.refused.map(([number]) => number));
  const safe = outbox.strokes.filter((one) => one.n <= written.saved && !refused.has(one.n));
  outbox.recent = [...outbox.recent, ...safe].slice(-RECENT);
  outbox.strokes = outbox.strokes.filter((one) => one.n > written.saved);
  renamed(written.named);
  outbox.saved = written.saved;
  keepOutbox();
  for (const [, why] of written.refused) note(say('refused', why));
  for (const [number, task] of written.undone) {
    if (undos.get(number) === task.id) continue; // it came back when the key was pressed
    done.delete(task.id);
    if (isBoxes() && current && current.task.id === task.id && !outbox.strokes.length) {
      current.task.boxes = task.boxes;
      drawBoxes();
    } else if ((!current || current.task.id !== task.id) && !ahead.some((one) => one.task.id === task.id)) {
      before(loaded(task));
    }
  }
  tellSaved();
  refresh();
}
function why(error) { // what stands in the way of the strokes
  if (!(error instanceof Told)) return say('lost', outbox.strokes.length);
  return error.status === 401 ? say('locked', outbox.strokes.length) : say('full', error.message);
}
function setDown(text) {
  outbox.isDown = Boolean(text);
  part('lost').textContent = text;
  part('lost').hidden = !text;
}
function tellSaved() {
  const waiting = outbox.strokes.length;
  desk.dataset.saved = String(outbox.saved);
  desk.dataset.waiting = String(waiting);
  part('saved').textContent = waiting > 1 ? say('waiting', waiting) : say('saved', outbox.number - waiting);
}
function note(text) {
  part('note').textContent = text;
  part('note').hidden = !text;
}
