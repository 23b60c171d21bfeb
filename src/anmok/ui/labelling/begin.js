// Begins: with what the form has opened, or with what this browser did last.
watch('value', () => {
  const value = props.value;
  if (value && (!session || value.room !== session.room)) enter(value);
});

async function goOn(last) { // the page was loaded again
  session = last;
  const waits = parsed(kept(sessionStorage, boxKey()));
  const isWanted = () => element.checkVisibility() || (waits && Array.isArray(waits.strokes) && waits.strokes.length > 0);
  while (!isWanted()) { // whoever looks at another tab opens nothing
    await pause(300);
    if (session !== last) return; // the form was quicker
  }
  try {
    const value = await opened();
    if (session !== last) return;
    enter(value);
    props.value = value;
    trigger('input');
  } catch (error) {
    if (session !== last) return;
    if (error instanceof Told && error.status !== 401) { session = null; forget(localStorage, KEPT); return; }
    await pause(1500);
    goOn(last);
  }
}
const last = parsed(kept(localStorage, KEPT));
if (props.value) enter(props.value);
else if (last && last.place && last.kind && Array.isArray(last.labels)) goOn(last);
