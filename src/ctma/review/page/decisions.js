// What the reviewer decided: kept in the browser at each action, downloaded and read as GeoJSON.

const data = JSON.parse(document.getElementById('data').textContent);
const STORE = `ctma review ${data.fingerprint}`;
const MOST_UNDONE = 500;
const VERDICTS = ['right', 'wrong', 'unsure'];

let state = { reviewer: '', verdicts: {}, drawn: [], history: [] };

function restore() {
  try {
    const kept = JSON.parse(localStorage.getItem(STORE) ?? 'null');
    if (kept) state = kept;
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

function verdictOf(key) {
  return state.verdicts[key] ?? {};
}

// Every action goes through here, so that each can be undone.
function record(key, fields) {
  state.history.push({ key, former: state.verdicts[key] ?? null });
  state.history.splice(0, state.history.length - MOST_UNDONE);
  state.verdicts[key] = { ...verdictOf(key), ...fields };
  save();
}

function recordDrawn(drawn) {
  state.history.push({ drawn: state.drawn });
  state.history.splice(0, state.history.length - MOST_UNDONE);
  state.drawn = drawn;
  save();
}

// Takes the last action back; returns the key of its change, or null if there was none.
function undo() {
  const last = state.history.pop();
  if (!last) return null;
  if (last.drawn) state.drawn = last.drawn;
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
      if (!verdict && !note && !outline) continue;
      features.push(featureOf(data.places[change.place], outline ?? change.outline, {
        id: change.id, verdict: verdict ?? null, note, repeat, mended: Boolean(outline),
        ...described(told),
      }));
    }
  }
  for (const { place, outline, note = '', ...told } of state.drawn) {
    features.push(featureOf(data.places[place], outline, {
      id: null, verdict: 'missed', note, repeat: false, mended: false, ...described(told),
    }));
  }
  const ctma = { form: 1, fingerprint: data.fingerprint, map: data.title, pixels: !data.georeferenced };
  return { type: 'FeatureCollection', ctma, features };
}

function described({ time = null, seconds = 0, reviewer = state.reviewer }) {
  return { time, seconds: Math.round(seconds * 10) / 10, reviewer };
}

// Takes a downloaded file of decisions in; throws an Error with a line for the reviewer.
function takeIn(text) {
  const file = JSON.parse(text);
  if (file?.type !== 'FeatureCollection' || !file.ctma) throw new Error('the file holds no decisions of ctma');
  if (file.ctma.fingerprint !== data.fingerprint) throw new Error('the file belongs to another map');
  const byName = new Map(data.places.map((place, index) => [place.name, index]));
  const known = new Map(data.changes.map((change) => [`${change.place} ${change.id}`, change.key]));
  const there = new Set(state.drawn.map(({ time, reviewer }) => `${time} ${reviewer}`));
  const drawn = [];
  let [taken, outside] = [0, 0];
  for (const { geometry, properties } of file.features) {
    const { id, verdict, place: name, note, time, seconds, reviewer, repeat, mended } = properties;
    const place = byName.get(name);
    const key = known.get(`${place} ${id}`);
    const outline = geometry.coordinates.map((ring) =>
      ring.slice(0, -1).map((point) => fromFile(data.places[place], point)));
    const told = { note, time, seconds, reviewer };
    if (verdict === 'missed') {
      if (!there.has(`${time} ${reviewer}`)) drawn.push({ place, outline, ...told });
    } else if (key) {
      const fields = { verdict: verdict ?? undefined, ...told, ...(mended && { outline }) };
      record(repeat ? `${key} again` : key, fields);
    } else {
      outside++;
      continue;
    }
    taken++;
  }
  if (drawn.length) addDrawn(drawn);
  return { taken, outside };
}

// Adds drawn changes, each with a key of its own.
function addDrawn(added) {
  const highest = Math.max(0, ...state.drawn.map(({ key }) => Number(key.slice('drawn '.length))));
  const named = added.map((one, index) => ({ ...one, key: `drawn ${highest + 1 + index}` }));
  recordDrawn([...state.drawn, ...named]);
  return named.at(-1).key;
}

function download() {
  const text = JSON.stringify(decisionsAsGeoJson(), null, 1);
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], { type: 'application/geo+json' }));
  link.download = 'decisions.geojson';
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
