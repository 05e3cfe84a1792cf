// What the reviewer decided: kept in the browser at each action, downloaded and read as GeoJSON.

const data = JSON.parse(document.getElementById('data').textContent);
const SAMPLE = data.survey?.sample ?? null;
const STORE = SAMPLE ? `ctma survey ${SAMPLE}` : `ctma review ${data.fingerprint}`;
const MOST_UNDONE = 500;
const VERDICTS = data.survey ? ['change', 'no change', 'unsure'] : ['right', 'wrong', 'unsure'];

let state = { reviewer: '', verdicts: {}, drawn: [], history: [] };

function restore() {
  try {
    const kept = JSON.parse(localStorage.getItem(STORE) ?? 'null');
    if (kept) state = kept;
    // Former pages kept the number of the place, which differs from page to page.
    const former = state.history.flatMap(({ drawn, all }) => drawn ?? all?.[1] ?? []);
    for (const one of [...state.drawn, ...former]) {
      if (typeof one.place === 'number') one.place = data.places[one.place]?.name ?? '';
    }
  } catch {
    tell('This browser keeps no decisions. Download them before you close the page.');
  }
}

function save() {
  try {
    localStorage.setItem(STORE, JSON.stringify(state));
  } catch {
    tell('This browser has no room for decisions. Download them before you close the page.');
  }
}

// Drawn changes on the places of this page; other pages of the map may show more places.
function drawnHere() {
  return state.drawn.filter(({ place }) => numberOf(place) >= 0);
}

function numberOf(place) {
  return data.places.findIndex(({ name }) => name === place);
}

// How many decisions lie on changes or places that this page does not show.
function countElsewhere() {
  const shown = new Set(data.changes.flatMap(({ key }) => [key, `${key} again`]));
  const decided = Object.keys(state.verdicts).filter((key) => !shown.has(key) && isDecided(verdictOf(key)));
  return decided.length + state.drawn.length - drawnHere().length;
}

function isDecided({ verdict, note, outline }) {
  return Boolean(verdict || note || outline);
}

function verdictOf(key) {
  return state.verdicts[key] ?? {};
}

// Every action goes through here, so that each can be undone.
function remember(action) {
  state.history = [...state.history, action].slice(-MOST_UNDONE);
}

function record(key, fields) {
  remember({ key, former: state.verdicts[key] ?? null });
  state.verdicts[key] = { ...verdictOf(key), ...fields };
  save();
}

function recordDrawn(drawn) {
  remember({ drawn: state.drawn });
  state.drawn = drawn;
  save();
}

// Takes the last action back; returns the key of its change, or null if there was none.
function undo() {
  const last = state.history.pop();
  if (!last) return null;
  if (last.all) [state.verdicts, state.drawn] = last.all;
  else if (last.drawn) state.drawn = last.drawn;
  else if (last.former) state.verdicts[last.key] = last.former;
  else delete state.verdicts[last.key];
  save();
  return last.key ?? '';
}

// How often the second verdict on a change is the first one, and Cohen's kappa.
function ownAgreement() {
  const pairs = data.repeats
    .map((index) => data.changes[index].key)
    .map((key) => [verdictOf(key).verdict, verdictOf(`${key} again`).verdict])
    .filter(([first, second]) => first && second);
  const same = pairs.filter(([first, second]) => first === second).length;
  const share = (side, verdict) => pairs.filter((pair) => pair[side] === verdict).length / pairs.length;
  const chance = VERDICTS.reduce((sum, one) => sum + share(0, one) * share(1, one), 0);
  const kappa = chance < 1 ? (same / pairs.length - chance) / (1 - chance) : null;
  return { same, of: pairs.length, kappa };
}

function featureOf(place, outline, properties) {
  const geometry = { type: 'Polygon', coordinates: toCoordinates(place, outline) };
  return { type: 'Feature', geometry, properties: { ...properties, place: place.name } };
}

function decisionsAsGeoJson() {
  const features = [];
  for (const change of data.changes) {
    for (const [key, repeat] of [[change.key, false], [`${change.key} again`, true]]) {
      const { verdict, note = '', outline, ...told } = verdictOf(key);
      if (!isDecided(verdictOf(key))) continue;
      features.push(featureOf(data.places[change.place], outline ?? change.outline, {
        id: change.id, verdict: verdict ?? null, note, repeat, mended: Boolean(outline),
        ...(change.kind && { kind: change.kind }),
        ...described(told),
      }));
    }
  }
  for (const { place, outline, note = '', ...told } of drawnHere()) {
    features.push(featureOf(data.places[numberOf(place)], outline, {
      id: null, verdict: 'missed', note, repeat: false, mended: false, ...described(told),
    }));
  }
  const ctma = { form: 1, fingerprint: data.fingerprint, map: data.title, pixels: !data.georeferenced };
  if (data.survey) ctma.survey = data.survey;
  return { type: 'FeatureCollection', ctma, features };
}

function described({ time = null, seconds = 0, reviewer = state.reviewer }) {
  return { time, seconds: Math.round(seconds * 10) / 10, reviewer };
}

// Takes a downloaded file of decisions in; throws an Error with a line for the reviewer.
// Nothing is taken in of a file with a mistake, and one undo takes all back.
function takeIn(text) {
  const file = JSON.parse(text);
  if (file?.type !== 'FeatureCollection' || !file.ctma) throw new Error('the file holds no decisions of ctma');
  if (file.ctma.fingerprint !== data.fingerprint) throw new Error('the file belongs to another map');
  if ((file.ctma.survey?.sample ?? null) !== SAMPLE) throw new Error('the file belongs to another sample');
  if (!Array.isArray(file.features)) throw new Error('the file holds no features');
  const read = file.features.map(readFeature);
  const known = new Map(data.changes.map((change) => [`${change.place} ${change.id}`, change.key]));
  const there = new Set(state.drawn.map(({ time, reviewer }) => `${time} ${reviewer}`));
  const former = [{ ...state.verdicts }, state.drawn];
  const { history } = state;
  let [taken, outside] = [0, 0];
  for (const { id, repeat, verdict, mended, outline, place, ...told } of read) {
    const key = known.get(`${place} ${id}`);
    if (verdict === 'missed') {
      const { name } = data.places[place];
      if (!there.has(`${told.time} ${told.reviewer}`)) addDrawn([{ place: name, outline, ...told }]);
    } else if (key) {
      takeOver(repeat ? `${key} again` : key, { ...told, ...(verdict && { verdict }), ...(mended && { outline }) });
    } else {
      outside++;
      continue;
    }
    taken++;
  }
  state.history = history;
  remember({ all: former });
  save();
  return { taken, outside };
}

// Takes a decision of a file in place of one's own. Without a verdict, it only adds what one's own lacks.
function takeOver(key, decision) {
  const own = verdictOf(key);
  if (own.verdict && !decision.verdict) {
    const { note, outline } = decision;
    state.verdicts[key] = { ...own, note: own.note || note, ...(outline && !own.outline && { outline }) };
    return;
  }
  state.verdicts[key] = decision;
}

// One decision of a file, with its outline in pixels; throws where it is none.
function readFeature({ geometry, properties }, index) {
  const where = `feature ${index + 1}`;
  const { id = null, verdict = null, note = '', time = null, seconds = 0, reviewer = '', ...more } = properties ?? {};
  const place = data.places.findIndex(({ name }) => name === (more.place ?? ''));
  if (place < 0) throw new Error(`${where} lies on a place that this page does not show`);
  if (verdict !== null && ![...VERDICTS, 'missed'].includes(verdict)) throw new Error(`${where} has an unknown verdict`);
  if (data.survey && verdict === 'missed') throw new Error(`${where} has an unknown verdict`);
  if (typeof note !== 'string' || typeof reviewer !== 'string') throw new Error(`${where} has a note or a reviewer that is no text`);
  if (!Number.isFinite(seconds)) throw new Error(`${where} has seconds that are no number`);
  if (geometry?.type !== 'Polygon' || !isRings(geometry.coordinates)) throw new Error(`${where} has no polygon`);
  const outline = geometry.coordinates.map((ring) =>
    ring.slice(0, -1).map((point) => fromFile(data.places[place], point)));
  return { id, verdict, note, time, seconds, reviewer, place, outline, repeat: Boolean(more.repeat), mended: Boolean(more.mended) };
}

function isRings(rings) {
  return Array.isArray(rings) && rings.length > 0 && rings.every((ring) =>
    Array.isArray(ring) && ring.length >= 4 && ring.every((point) =>
      Array.isArray(point) && point.slice(0, 2).length === 2 && point.slice(0, 2).every(Number.isFinite)));
}

// Adds drawn changes, each with a key of its own.
function addDrawn(added) {
  const highest = Math.max(0, ...state.drawn.map(({ key }) => Number(key.slice('drawn '.length))));
  const named = added.map((one, index) => ({ ...one, key: `drawn ${highest + 1 + index}` }));
  recordDrawn([...state.drawn, ...named]);
  return named.at(-1).key;
}

function download() {
  const elsewhere = countElsewhere();
  if (elsewhere) tell(`The file lacks decisions on changes that this page does not show: ${elsewhere}. Download them from the page that shows them.`);
  const text = JSON.stringify(decisionsAsGeoJson(), null, 1);
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], { type: 'application/geo+json' }));
  link.download = 'decisions.geojson';
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
