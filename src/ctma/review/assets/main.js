// The list, the verdicts, the keys.

const $ = (id) => document.getElementById(id);
const LEAST_SHOWN = 48;
const BUTTONS = ['right', 'wrong', 'unsure'];
let current = null;
let order = data.order;
let shownSince = performance.now();
let noteBegun = false;
let entries = [];
let shownKeys = null;
let secondsBefore = 0;

function tell(line) {
  $('warning').textContent = line;
  $('warning').hidden = !line;
}

function say(line) {
  $('said').textContent = line;
}

// Entries of the list: changes, drawn changes, and the changes that are shown again.

function sortEntries() {
  const rank = {
    survey: (change) => change.rank,
    doubt: (change) => Math.abs((change.mean ?? 0) - data.threshold),
    area: (change) => -change.area,
    place: (change) => change.reading,
    learn: (change) => change.rank,
  }[order];
  const sorted = data.changes
    .map((change, index) => ({ key: change.key, change: index, repeat: false }))
    .sort((one, other) => rank(data.changes[one.change]) - rank(data.changes[other.change]));
  const drawn = drawnHere().map(({ key }) => ({ key, drawn: true, repeat: false }));
  const again = data.repeats.map((index) => (
    { key: `${data.changes[index].key} again`, change: index, repeat: true }));
  entries = [...sorted, ...drawn, ...again];
}

function drawnOf(entry) {
  return state.drawn.find(({ key }) => key === entry.key);
}

function shapeOf(entry) {
  if (entry.drawn) return { place: numberOf(drawnOf(entry).place), outline: drawnOf(entry).outline };
  const change = data.changes[entry.change];
  return { place: change.place, outline: verdictOf(entry.key).outline ?? change.outline };
}

function currentEntry() {
  return entries.find(({ key }) => key === current) ?? null;
}

function shownChange() {
  const entry = currentEntry();
  return entry && !entry.drawn ? data.changes[entry.change] : null;
}

function isListed(entry) {
  const wanted = $('verdict').value;
  if (entry.drawn) return wanted === 'all' || wanted === 'missed';
  const change = data.changes[entry.change];
  const verdict = data.decide ? stateOf(entry) : change.kind;
  const mean = change.mean ?? 1;
  return (
    mean >= Number($('least-probability').value) &&
    mean <= Number($('most-probability').value || 1) &&
    (isStill(change) || data.survey || change.area >= Number($('least-area').value)) &&
    (wanted === 'all' || wanted === verdict)
  );
}

function listed() {
  return entries.filter((entry) => isListed(entry) || entry.key === current);
}

// A place that shows no change on the map, to learn from.
function isStill(change) {
  return change.kind === 'still';
}

function nameOf(entry) {
  if (entry.drawn) return entry.key;
  const change = data.changes[entry.change];
  const name = `${isStill(change) || data.survey ? 'place' : 'change'} ${change.id}`;
  return data.places.length > 1 ? `${data.places[change.place].name}, ${name}` : name;
}

function describe(entry) {
  if (entry.drawn) return `${nameOf(entry)}: missed by the map`;
  const { mean } = data.changes[entry.change];
  const told = mean === null ? [] : [`probability ${mean.toFixed(2)}`];
  const verdict = data.decide ? [stateOf(entry)] : [];
  return `${nameOf(entry)}: ${[...sizeOf(entry), ...told, ...verdict].join(', ')}`;
}

function sizeOf(entry) {
  const { area, kind } = data.changes[entry.change];
  if (isStill(data.changes[entry.change])) return ['no change on the map'];
  if (data.survey) return [];
  const unit = area === 1 ? data.unit.replace(/s$/, '') : data.unit;
  return [...(kind ? [kind] : []), `${area.toLocaleString('en')} ${unit}`];
}

function stateOf(entry) {
  return verdictOf(entry.key).verdict ?? 'undecided';
}

function describeShortly(entry) {
  if (entry.drawn) return `${entry.key}, missed`;
  const { id, place, mean } = data.changes[entry.change];
  const name = data.places.length > 1 ? `${data.places[place].name}/${id}` : id;
  const told = mean === null ? [] : [mean.toFixed(2)];
  const verdict = data.decide ? [stateOf(entry)] : [];
  return [name, ...sizeOf(entry), ...told, ...verdict].join(', ');
}

function refresh() {
  sortEntries();
  const wanted = listed();
  const keys = wanted.map(({ key }) => key).join('\n');
  if (keys !== shownKeys) {
    shownKeys = keys;
    $('list').replaceChildren(...wanted.map(rowOf));
  }
  wanted.forEach((entry, index) => describeRow($('list').children[index].firstChild, entry));
  showState();
  redraw();
}

function rowOf(entry) {
  const row = document.createElement('li');
  const button = document.createElement('button');
  button.type = 'button';
  button.addEventListener('click', () => select(entry.key));
  row.append(button);
  return row;
}

function describeRow(button, entry) {
  const text = describeShortly(entry);
  if (button.textContent !== text) {
    button.textContent = text;
    button.setAttribute('aria-label', describe(entry));
    button.dataset.verdict = entry.drawn ? 'missed' : verdictOf(entry.key).verdict ?? 'none';
  }
  if (entry.key === current) button.setAttribute('aria-current', 'true');
  else button.removeAttribute('aria-current');
}

// Scrolls the list alone: the picture must stay where it is.
function scrollToCurrent() {
  const row = document.querySelector('#list [aria-current]')?.parentElement;
  if (!row) return;
  const list = $('list');
  const top = row.offsetTop;
  if (top < list.scrollTop) list.scrollTop = top;
  else if (top + row.offsetHeight > list.scrollTop + list.clientHeight) {
    list.scrollTop = top + row.offsetHeight - list.clientHeight;
  }
}

function showState() {
  const decided = entries.filter(({ key, drawn }) => !drawn && verdictOf(key).verdict).length;
  const wanted = data.changes.length + data.repeats.length;
  const drawn = data.survey ? '' : `, ${drawnHere().length} drawn`;
  $('progress').textContent = `${decided} of ${wanted} decided${drawn}`;
  const { same, of, kappa } = ownAgreement();
  $('agreement').hidden = !of;
  $('agreement').textContent = of === 0 ? '' :
    `Shown twice: ${same} of ${of} decided alike${kappa === null ? '' : `, kappa ${kappa.toFixed(2)}`}`;
  const entry = currentEntry();
  const told = entry?.drawn ? drawnOf(entry) : verdictOf(current);
  if (document.activeElement !== $('note')) $('note').value = told?.note ?? '';
  $('current').textContent = entry ? describe(entry) : 'no change';
  canvas.setAttribute('aria-label', entry ? `Both dates at ${describe(entry)}` : 'Both dates of the map');
  VERDICTS.forEach((verdict, index) => {
    $(BUTTONS[index]).setAttribute('aria-pressed', String(told?.verdict === verdict));
  });
}

function select(key, move = true) {
  if (isBusy()) return;
  noteBegun = false;
  current = key;
  secondsBefore = 0;
  shownSince = performance.now();
  if (move) showCurrent();
  refresh();
  scrollToCurrent();
}

// Seconds that the current change was looked at, without those in another tab.
function secondsShown() {
  return secondsBefore + (document.hidden ? 0 : (performance.now() - shownSince) / 1000);
}

function onVisibility() {
  if (document.hidden) secondsBefore += (performance.now() - shownSince) / 1000;
  shownSince = performance.now();
}

// While an outline is drawn or mended, nothing else takes it away.
function isBusy() {
  if (tool) say('Finish the outline first: Enter ends, Escape cancels.');
  return Boolean(tool);
}

function showCurrent() {
  const entry = currentEntry();
  if (!entry) return;
  const { place, outline } = shapeOf(entry);
  const [left, top, width, height] = boundsOf(outline);
  const side = Math.max(width, height, LEAST_SHOWN);
  view.place = place;
  $('place').value = String(place);
  showBox([left + (width - side) / 2, top + (height - side) / 2, side, side], 2.2);
  preload(entry);
}

function preload(entry) {
  const following = entries[entries.indexOf(entry) + 1];
  if (!following || following.drawn) return;
  for (const date of ['before', 'after']) {
    const source = data.changes[following.change][date];
    if (source) picture(source);
  }
}

function go(step) {
  if (isBusy()) return;
  const rows = listed();
  const index = rows.findIndex(({ key }) => key === current);
  const next = rows[index + step];
  if (!next) {
    say(step > 0 ? 'This is the last change of the list.' : 'This is the first change of the list.');
    return;
  }
  select(next.key);
  say(describe(next));
}

function decide(verdict) {
  const entry = currentEntry();
  if (!entry || isBusy()) return;
  if (entry.drawn) {
    say('A drawn change counts as missed by the map. X removes it.');
    return;
  }
  const seconds = (verdictOf(entry.key).seconds ?? 0) + secondsShown();
  record(entry.key, { verdict, seconds, time: new Date().toISOString(), reviewer: state.reviewer });
  if (verdict === 'wrong' && isStill(data.changes[entry.change])) {
    refresh();
    say(`${nameOf(entry)}: wrong. D draws what changed, N goes on.`);
    return;
  }
  const rows = listed();
  const next = rows[rows.findIndex(({ key }) => key === entry.key) + 1];
  if (next) select(next.key);
  else refresh();
  say(`${nameOf(entry)}: ${verdict}. ${next ? `Now ${describe(next)}` : 'This was the last change of the list.'}`);
}

function takeBack() {
  if (tool) {
    removeCorner();
    return;
  }
  const known = new Set(state.drawn.map(({ key }) => key));
  const undone = undo();
  const key = state.drawn.find((one) => !known.has(one.key))?.key ?? undone;
  if (key === null) {
    say('There is nothing to undo.');
    return;
  }
  sortEntries();
  if (key && entries.some((entry) => entry.key === key)) select(key);
  else if (!currentEntry()) select(entries[0]?.key ?? null);
  else refresh();
  say('Undone.');
}

function removeDrawn() {
  if (isBusy()) return;
  const entry = currentEntry();
  if (!entry?.drawn) {
    say('Only drawn changes can be removed. W calls a change wrong.');
    return;
  }
  recordDrawn(state.drawn.filter(({ key }) => key !== entry.key));
  sortEntries();
  select(entries[0]?.key ?? null);
  say('Removed.');
}

function keepNote() {
  const entry = currentEntry();
  if (!entry) return;
  const note = $('note').value;
  if (entry.drawn) {
    if (!noteBegun) recordDrawn(state.drawn.map((one) => ({ ...one })));
    drawnOf(entry).note = note;
  } else if (noteBegun) {
    state.verdicts[entry.key].note = note;
  } else {
    record(entry.key, { note, reviewer: state.reviewer, time: new Date().toISOString() });
  }
  noteBegun = true;
  save();
}

function showWay(way) {
  view.way = way;
  for (const one of ['swipe', 'blink', 'fade']) $(one).setAttribute('aria-pressed', String(one === way));
  $('slider').disabled = way === 'blink';
  $('slider').value = String(100 * (way === 'fade' ? view.fade : view.swipe));
  $('slider-name').textContent = way === 'fade' ? 'Opacity of the date after' : 'Place of the swipe handle';
  redraw();
}

function moveSlider() {
  view[view.way] = Number($('slider').value) / 100;
  redraw();
}

function hold(on) {
  view.holding = on;
  if (on && view.way !== 'blink') showWay('blink');
  redraw();
}

function toggle(name) {
  view[name] = !view[name];
  $(name).setAttribute('aria-pressed', String(view[name]));
  redraw();
}

function toggleWhole() {
  const { width, height } = data.places[view.place];
  const [across, down] = size();
  const whole = Math.min(across / width, down / height) / 1.04;
  if (Math.abs(view.scale / whole - 1) < 0.01) showCurrent();
  else showPlace(view.place);
}

function toggleKeys() {
  const open = $('keys').hidden;
  $('keys').hidden = !open;
  $('help').setAttribute('aria-expanded', String(open));
}

async function load() {
  const [file] = $('file').files;
  if (!file) return;
  try {
    const { taken, outside } = takeIn(await file.text());
    refresh();
    say(`${taken} decisions taken in${outside ? `, ${outside} on changes that this page does not show` : ''}.`);
    tell('');
  } catch (error) {
    tell(`${file.name} cannot be taken in: ${error.message}.`);
  }
  $('file').value = '';
}

// One key a verdict: of a survey 1 and 0, as in a label.
const VERDICT_KEYS = data.survey ? ['1', '0', 'u'] : ['r', 'w', 'u'];

const ACTIONS = {
  ...Object.fromEntries(VERDICT_KEYS.map((key, index) => [key, [BUTTONS[index], () => decide(VERDICTS[index])]])),
  n: ['next', () => go(1)],
  p: ['previous', () => go(-1)],
  z: ['undo', takeBack],
  t: ['write', () => $('note').focus()],
  o: ['outlines', () => toggle('outlines')],
  h: ['probability', () => toggle('probability')],
  s: ['swipe', () => showWay('swipe')],
  f: ['fade', () => showWay('fade')],
  a: ['whole', toggleWhole],
  c: ['centre', showCurrent],
  '+': ['larger', () => zoom(1.4)],
  '-': ['smaller', () => zoom(1 / 1.4)],
  d: ['draw', startDrawing],
  m: ['mend', startMending],
  x: ['remove', removeDrawn],
  l: ['download', download],
  '?': ['help', toggleKeys],
};
const MORE_KEYS = { ArrowRight: 'n', ArrowLeft: 'p', '=': '+', k: '?' };

const OWN_KEYS = {
  'input[type="number"]': /^([0-9+\-.,e]|Arrow.*|Backspace|Delete|Tab|Home|End)$/,
  'input[type="range"], select': /^(Arrow.*|Page.*|Home|End|Enter| |Tab)$/,
  'textarea, input[type="text"]': /./,
};

// Whether the control that has the focus needs a key itself.
function isOwnKey({ target, key }) {
  return Object.entries(OWN_KEYS).some(([control, keys]) => target.matches(control) && keys.test(key));
}

function onEscape(event) {
  if (event.target.matches('textarea, select, input')) event.target.blur();
  else if (!tool && !$('keys').hidden) toggleKeys();
}

const PANS = { ArrowLeft: [80, 0], ArrowRight: [-80, 0], ArrowUp: [0, 80], ArrowDown: [0, -80] };

function onKey(event) {
  if (event.key === 'Escape') onEscape(event);
  if (isOwnKey(event) || event.ctrlKey || event.metaKey || event.altKey) return;
  if (tool && toolKey(event)) {
    event.preventDefault();
    return;
  }
  if (event.key.toLowerCase() === 'b') {
    hold(true);
    return;
  }
  if (event.shiftKey && event.key in PANS) {
    event.preventDefault();
    pan(...PANS[event.key]);
    return;
  }
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const action = ACTIONS[MORE_KEYS[key] ?? key];
  if (!action || $(action[0])?.hidden || event.repeat && !['n', 'p', '+', '-'].includes(MORE_KEYS[key] ?? key)) return;
  event.preventDefault();
  action[1]();
}

// The canvas: drag the handle, a corner, or the picture; wheel and two fingers zoom.

const touching = new Map();
let held = null;

function onPress(event) {
  const at = [event.offsetX, event.offsetY];
  canvas.setPointerCapture(event.pointerId);
  touching.set(event.pointerId, at);
  const onHandle = view.way === 'swipe' && Math.abs(at[0] - view.swipe * size()[0]) < HANDLE;
  if (tool && pressTool(at)) held = 'corner';
  else held = onHandle ? 'handle' : 'picture';
}

function onMove(event) {
  const former = touching.get(event.pointerId);
  if (!former) return;
  const at = [event.offsetX, event.offsetY];
  touching.set(event.pointerId, at);
  if (touching.size === 2) pinch(event.pointerId, former, at);
  else if (held === 'corner') dragTool(at);
  else if (held === 'handle') {
    view.swipe = Math.min(1, Math.max(0, at[0] / size()[0]));
    $('slider').value = String(100 * view.swipe);
    redraw();
  } else pan(at[0] - former[0], at[1] - former[1]);
}

function pinch(moving, former, at) {
  const [, resting] = [...touching].find(([id]) => id !== moving);
  const distance = ([x, y]) => Math.hypot(x - resting[0], y - resting[1]);
  zoom(distance(at) / Math.max(1, distance(former)), resting);
}

function onRelease(event) {
  touching.delete(event.pointerId);
}

function listen() {
  for (const [key, [id, act]] of Object.entries(ACTIONS)) {
    $(id)?.addEventListener('click', act);
    $(id)?.setAttribute('aria-keyshortcuts', key);
  }
  document.addEventListener('keydown', onKey);
  document.addEventListener('keyup', (event) => event.key.toLowerCase() === 'b' && hold(false));
  window.addEventListener('blur', () => hold(false));
  document.addEventListener('visibilitychange', onVisibility);
  window.addEventListener('storage', onStorage);
  $('blink').addEventListener('pointerdown', () => hold(true));
  for (const over of ['pointerup', 'pointercancel', 'pointerleave']) $('blink').addEventListener(over, () => hold(false));
  $('blink').addEventListener('keydown', (event) => [' ', 'Enter'].includes(event.key) && hold(true));
  $('blink').addEventListener('keyup', () => hold(false));
  $('slider').addEventListener('input', moveSlider);
  $('note').addEventListener('input', keepNote);
  $('note').addEventListener('blur', () => { noteBegun = false; refresh(); });
  $('reviewer').addEventListener('input', () => { state.reviewer = $('reviewer').value; save(); });
  $('order').addEventListener('change', () => { order = $('order').value; refresh(); });
  for (const filter of ['verdict', 'least-probability', 'most-probability', 'least-area']) {
    $(filter).addEventListener('input', refresh);
  }
  $('place').addEventListener('change', () => {
    if (isBusy()) return;
    select(null, false);
    showPlace(Number($('place').value));
  });
  $('load').addEventListener('click', () => $('file').click());
  $('file').addEventListener('change', load);
  canvas.addEventListener('pointerdown', onPress);
  canvas.addEventListener('pointermove', onMove);
  for (const over of ['pointerup', 'pointercancel']) canvas.addEventListener(over, onRelease);
  canvas.addEventListener('wheel', (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 400), [event.offsetX, event.offsetY]);
  }, { passive: false });
  canvas.addEventListener('dblclick', () => tool?.kind === 'draw' && finishTool());
  new ResizeObserver(redraw).observe(canvas);
}

// A page of differences is for looking alone.
function showOnly() {
  for (const id of ['right', 'wrong', 'unsure', 'undo', 'draw', 'mend', 'remove', 'download', 'load']) {
    $(id).hidden = true;
  }
  for (const id of ['naming', 'noting', 'progress', 'of-decisions']) $(id).hidden = true;
  $('verdict-name').textContent = 'Kind ';
  const kinds = [...new Set(data.changes.map(({ kind }) => kind))].sort();
  $('verdict').replaceChildren(new Option('all', 'all'), ...kinds.map((kind) => new Option(kind)));
}

// A survey asks what is on the ground, and shows nothing of the map's answer.
function askOfPlaces() {
  for (const id of ['from-probability', 'to-probability', 'draw', 'mend', 'remove', 'probability', 'of-area', 'of-order']) {
    $(id).hidden = true;
  }
  for (const key of ['of-drawing', 'of-mending', 'of-removing', 'of-seeing']) $(key).hidden = true;
  VERDICTS.forEach((verdict, index) => {
    const key = document.createElement('kbd');
    key.textContent = VERDICT_KEYS[index].toUpperCase();
    $(BUTTONS[index]).replaceChildren(`${verdict[0].toUpperCase()}${verdict.slice(1)} `, key);
  });
  $('verdict').replaceChildren(...['all', 'undecided', ...VERDICTS].map((name) => new Option(name)));
  $('of-decisions').replaceChildren(term('1, 0, U'), meaning('change, no change, unsure; then the next place'));
  $('list').setAttribute('aria-label', 'Places');
  order = 'survey';
}

function term(text) {
  return Object.assign(document.createElement('dt'), { textContent: text });
}

function meaning(text) {
  return Object.assign(document.createElement('dd'), { textContent: text });
}

// Another tab of this page has decided.
function onStorage({ key }) {
  if (key !== STORE) return;
  restore();
  noteBegun = false;
  if (document.activeElement !== $('reviewer')) $('reviewer').value = state.reviewer;
  sortEntries();
  if (!tool && current !== null && !currentEntry()) select(entries[0]?.key ?? null);
  else refresh();
}

function start() {
  restore();
  if (data.survey) askOfPlaces();
  sortEntries();
  $('title').textContent = data.title;
  const still = data.changes.filter(isStill).length;
  const shown = data.changes.length - still;
  const places = still ? `, and ${still} places without a change` : '';
  if (data.survey) $('counted').textContent = `Did the ground change within the outline? ${shown} places`;
  else $('counted').textContent = data.total > shown
    ? `${shown} of ${data.total} changes are on this page${places}` : `${data.total} changes${places}`;
  if (data.order === 'learn') $('order').append(new Option('what teaches most', 'learn'));
  $('order').value = order;
  $('reviewer').value = state.reviewer;
  $('area-unit').textContent = data.unit;
  $('places').hidden = data.places.length < 2;
  $('place').replaceChildren(...data.places.map(({ name }, index) => new Option(name, index)));
  if (!data.decide) showOnly();
  listen();
  showWay('swipe');
  const first = entries.find(({ key, drawn }) => !drawn && !verdictOf(key).verdict) ?? entries[0];
  if (first) select(first.key);
  else {
    showPlace(0);
    refresh();
  }
}

start();
