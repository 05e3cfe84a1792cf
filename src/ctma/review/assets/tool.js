// Drawing what the map missed, and mending an outline; by pointer or by keys alone.

const NEAR = 12;
let tool = null;

function startDrawing() {
  if (isBusy()) return;
  tool = { kind: 'draw', points: [], chosen: -1, cursor: [view.x, view.y], changed: true, since: performance.now() };
  canvas.focus({ preventScroll: true });
  say('Drawing: click the corners, Enter ends, Escape cancels. By keys: arrows move the cross, Space sets a corner.');
  redraw();
}

function startMending() {
  const entry = currentEntry();
  if (!entry || isBusy()) return;
  const { outline } = shapeOf(entry);
  canvas.focus({ preventScroll: true });
  const points = simplified(outline[0], 0.75).map((point) => [...point]);
  tool = { kind: 'mend', points, chosen: 0, cursor: points[0], changed: false, since: performance.now() };
  say('Mending: drag a corner, click an edge for a new one. By keys: , and . choose a corner, arrows move it, I adds one, Backspace removes it, Enter ends, Escape cancels.');
  redraw();
}

function cancelTool() {
  tool = null;
  say('Cancelled.');
  redraw();
}

function finishTool() {
  const { kind, points, changed, since } = tool;
  if (!changed) {
    cancelTool();
    return;
  }
  if (points.length < 3 || Math.abs(signedArea(points)) < 0.5) {
    say('An outline needs three corners and an area.');
    return;
  }
  if (kind === 'mend' && !currentEntry()) {
    cancelTool();
    say('The change was removed in another tab.');
    return;
  }
  tool = null;
  const now = { time: new Date().toISOString(), reviewer: state.reviewer };
  if (kind === 'draw') {
    const seconds = (performance.now() - since) / 1000;
    select(addDrawn([{ place: data.places[view.place].name, outline: [points], note: '', seconds, ...now }]), false);
    say('Drawn. The change counts as missed by the map.');
  } else {
    keepMended(currentEntry(), points, now);
    say('Outline mended.');
  }
  refresh();
}

function keepMended(entry, points, now) {
  const { outline } = shapeOf(entry);
  const mended = [points, ...outline.slice(1)];
  if (entry.drawn) {
    // The time stays: by it a file knows the change again.
    const { reviewer } = now;
    recordDrawn(state.drawn.map((one) => (one.key === entry.key ? { ...one, outline: mended, reviewer } : one)));
  } else {
    record(entry.key, { outline: mended, ...now });
  }
}

function placeCorner(point) {
  tool.points.push(point);
  tool.chosen = tool.points.length - 1;
  redraw();
}

function removeCorner() {
  if (tool.kind === 'draw') tool.points.pop();
  else if (tool.points.length > 3) tool.points.splice(tool.chosen, 1);
  tool.changed = true;
  tool.chosen = Math.max(0, Math.min(tool.chosen - 1, tool.points.length - 1));
  redraw();
}

function addCorner() {
  const [point, next] = [tool.points[tool.chosen], tool.points[(tool.chosen + 1) % tool.points.length]];
  insertCorner(tool.chosen + 1, [(point[0] + next[0]) / 2, (point[1] + next[1]) / 2]);
}

function insertCorner(index, point) {
  tool.points.splice(index, 0, point);
  tool.chosen = index;
  tool.changed = true;
  redraw();
}

function chooseCorner(step) {
  tool.chosen = (tool.chosen + step + tool.points.length) % tool.points.length;
  redraw();
}

function moveByKey(across, down, far) {
  const step = (far ? 20 : 4) / view.scale;
  const place = data.places[view.place];
  const moved = ([x, y]) => [
    Math.min(place.width, Math.max(0, x + across * step)),
    Math.min(place.height, Math.max(0, y + down * step)),
  ];
  if (tool.kind === 'draw') tool.cursor = moved(tool.cursor);
  else tool.points[tool.chosen] = moved(tool.points[tool.chosen]);
  tool.changed = true;
  keepInView(tool.kind === 'draw' ? tool.cursor : tool.points[tool.chosen]);
  redraw();
}

// Moves the picture so that a point which is moved by keys stays on it.
function keepInView(point) {
  const margin = 30;
  const sides = size();
  const [x, y] = toScreen(point).map((at, axis) =>
    Math.min(0, sides[axis] - margin - at) + Math.max(0, margin - at));
  pan(x, y);
}

// A press on the canvas while a tool is on; returns whether a corner is now held.
function pressTool(at) {
  const near = tool.points.findIndex((point) => {
    const [x, y] = toScreen(point);
    return Math.hypot(x - at[0], y - at[1]) < NEAR;
  });
  if (near >= 0) {
    tool.chosen = near;
    redraw();
    return true;
  }
  if (tool.kind === 'draw') {
    placeCorner(toGrid(at));
    return true;
  }
  const edge = tool.points.findIndex((point, index) =>
    distanceToEdge(at, toScreen(point), toScreen(tool.points[(index + 1) % tool.points.length])) < NEAR);
  if (edge >= 0) insertCorner(edge + 1, toGrid(at));
  return edge >= 0;
}

function dragTool(at) {
  tool.points[tool.chosen] = toGrid(at);
  tool.changed = true;
  redraw();
}

// What a key does while a tool is on; returns whether the key was taken.
function toolKey(event) {
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  if (event.key in arrows) moveByKey(...arrows[event.key], event.shiftKey);
  else if (event.key === 'Enter') finishTool();
  else if (event.key === 'Escape') cancelTool();
  else if (event.key === 'Backspace' || event.key === 'Delete') removeCorner();
  else if (event.key === ' ' && tool.kind === 'draw') placeCorner([...tool.cursor]);
  else if (event.key === ',' && tool.points.length) chooseCorner(-1);
  else if (event.key === '.' && tool.points.length) chooseCorner(1);
  else if (event.key.toLowerCase() === 'i' && tool.kind === 'mend') addCorner();
  else return false;
  return true;
}

function drawTool() {
  if (!tool) return;
  trace([tool.points]);
  stroke(COLOURS.missed, [], 2);
  tool.points.forEach((point, index) => {
    const [x, y] = toScreen(point);
    pen.fillStyle = index === tool.chosen ? '#ffb627' : '#ffffff';
    pen.strokeStyle = '#17191d';
    pen.lineWidth = 1;
    pen.fillRect(x - 4, y - 4, 8, 8);
    pen.strokeRect(x - 4, y - 4, 8, 8);
  });
  if (tool.kind === 'draw') drawCross(toScreen(tool.cursor));
}

function drawCross([x, y]) {
  pen.beginPath();
  for (const [across, down] of [[9, 0], [0, 9]]) {
    pen.moveTo(x - across, y - down);
    pen.lineTo(x + across, y + down);
  }
  stroke(COLOURS.unsure, [], 2);
}
