// The model inside of the browser. Words are set as text: nothing in an answer is taken for HTML.
const root = element.querySelector('.nano');
const part = (name) => root.querySelector(`[data-act=${name}]`);
const told = root.querySelector('.told');
const log = root.querySelector('[role=log]');
const turns = root.querySelector('.turns');
const texts = props.texts;
const api = window.LanguageModel;
const outputs = { expectedOutputs: [{ type: 'text', languages: ['en'] }] };
const reads = { ...outputs, expectedInputs: [{ type: 'text', languages: ['en'] }] };
const sees = { ...outputs, expectedInputs: [...reads.expectedInputs, { type: 'image' }] };
let wanted = null;
let session = null;
let running = null; // an AbortController while an answer is written
let shown = new Set(); // photos that the session has seen

async function available(options) {
  try { return await api.availability(options); } catch (error) { return 'unavailable'; }
}
async function begin() {
  if (!api || typeof api.availability !== 'function' || typeof api.create !== 'function') return;
  for (const options of [sees, reads]) {
    const state = await available(options);
    if (state === 'unavailable') continue;
    wanted = options;
    root.querySelector('[data-for=download]').hidden = state === 'available';
    root.hidden = false;
    return;
  }
}
function say(key, value) {
  told.textContent = (texts[key] || '').replace('{0}', () => value); // an error may have a $ in it
}
function turn(who, text, photos) {
  const box = document.createElement('div');
  box.className = `turn ${who}`;
  const name = document.createElement('span');
  name.className = 'who';
  name.textContent = texts[`who.${who}`];
  const row = document.createElement('div');
  row.className = 'anmok-shown';
  for (const photo of photos) {
    const image = document.createElement('img');
    image.src = photo.src;
    image.alt = photo.alt;
    row.append(image);
  }
  const words = document.createElement('p');
  words.className = 'words';
  words.dir = 'auto';
  words.textContent = text;
  box.append(name, ...(photos.length ? [row] : []), words);
  turns.append(box);
  log.hidden = false;
  return { box, words };
}
function busy(is) {
  part('ask').disabled = is;
  part('stop').hidden = !is;
  part('clear').hidden = is || !turns.children.length;
}
async function opened(signal) {
  if (session) return session;
  const monitor = (target) => target.addEventListener('downloadprogress', (event) => {
    if (event.loaded < 1) say('loading', Math.floor(100 * event.loaded));
  });
  // Its own signal: the one of a question would end the session with the first answer that is stopped.
  const making = new AbortController();
  const stop = () => making.abort();
  signal.addEventListener('abort', stop);
  try {
    // Before anything is waited for: a download wants the click that asked for it.
    session = await api.create({ ...wanted, monitor, signal: making.signal });
  } finally {
    signal.removeEventListener('abort', stop);
  }
  root.querySelector('[data-for=download]').hidden = true;
  return session;
}
async function seen(photo) {
  const answer = await fetch(photo.src, { signal: running.signal });
  if (!answer.ok) throw new Error(`${answer.status}`);
  return { type: 'image', value: await answer.blob() };
}
async function written(stream, words) {
  const reader = stream.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    words.textContent += value;
  }
}
async function ask() {
  const field = document.querySelector('#chat-question textarea');
  const question = field.value.trim();
  const photos = [...document.querySelectorAll('#chat-seen img')].filter((photo) => !shown.has(photo.src));
  if (!question) return say('no_question');
  if (document.querySelector('#chat-seen video')) return say('no_videos');
  if (document.querySelector('#chat-seen [data-sound]')) return say('no_sounds');
  if (photos.length && wanted !== sees) return say('blind');
  running = new AbortController();
  const began = performance.now();
  const asked = turn('user', question, photos);
  let answer = null;
  busy(true);
  say('writing');
  try {
    const model = await opened(running.signal);
    const content = [...await Promise.all(photos.map(seen)), { type: 'text', value: question }];
    say('writing');
    answer = turn('assistant', '', []);
    await written(model.promptStreaming([{ role: 'user', content }], { signal: running.signal }), answer.words);
    say('done', ((performance.now() - began) / 1000).toFixed(1));
  } catch (error) {
    const isWritten = Boolean(answer && answer.words.textContent);
    if (!isWritten) {
      asked.box.remove();
      if (answer) answer.box.remove();
      log.hidden = !turns.children.length;
    }
    if (error.name === 'AbortError') say(isWritten ? 'stopped' : 'stopped_before');
    else if (error.name === 'QuotaExceededError') say('full');
    else say('failed', `${error.name}: ${error.message}`.slice(0, 200));
    if (error.name !== 'AbortError' || !isWritten) return; // the question stays
  } finally {
    running = null;
    busy(false);
  }
  photos.forEach((photo) => shown.add(photo.src));
  field.value = '';
  field.dispatchEvent(new Event('input', { bubbles: true })); // gradio keeps the words otherwise
}
function clear() {
  if (session) session.destroy();
  session = null;
  shown = new Set();
  turns.replaceChildren();
  log.hidden = true;
  told.textContent = '';
  busy(false);
}
root.addEventListener('click', (event) => {
  const act = event.target.closest('button')?.dataset.act;
  if (act === 'ask' && !running) ask();
  if (act === 'stop') running?.abort();
  if (act === 'clear' && !running) clear();
});
begin();
