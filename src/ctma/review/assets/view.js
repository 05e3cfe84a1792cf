// The picture: both dates on one canvas, so that they always lie on each other.

const canvas = document.getElementById('canvas');
const pen = canvas.getContext('2d');
const COLOURS = {
  right: '#35d07f', wrong: '#ff5a4d', unsure: '#ffb627', missed: '#5cc8ff', none: '#ffffff',
  change: '#ffffff', 'no change': '#ffffff',
};
const DASHES = {
  right: [], wrong: [7, 5], unsure: [2, 4], missed: [], none: [], change: [], 'no change': [],
};
const MOST_PICTURES = 24;
const HANDLE = 18;

const view = {
  place: 0, x: 0, y: 0, scale: 1,
  way: 'swipe', swipe: 0.5, fade: 0.5, holding: false,
  outlines: true, probability: false,
};
const pictures = new Map();
let drawing = false;

function redraw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => { drawing = false; draw(); });
}

// A picture once it is decoded; null until then.
function picture(source) {
  let image = pictures.get(source);
  if (!image) {
    image = new Image();
    image.onload = redraw;
    image.src = source;
  }
  pictures.delete(source);
  pictures.set(source, image);
  if (pictures.size > MOST_PICTURES) pictures.delete(pictures.keys().next().value);
  return image.complete && image.naturalWidth ? image : null;
}

function size() {
  return [canvas.clientWidth, canvas.clientHeight];
}

function toScreen([column, row]) {
  const [width, height] = size();
  return [(column - view.x) * view.scale + width / 2, (row - view.y) * view.scale + height / 2];
}

function toGrid([x, y]) {
  const [width, height] = size();
  const place = data.places[view.place];
  const point = [(x - width / 2) / view.scale + view.x, (y - height / 2) / view.scale + view.y];
  return [Math.min(place.width, Math.max(0, point[0])), Math.min(place.height, Math.max(0, point[1]))];
}

function showBox([left, top, width, height], margin) {
  const [across, down] = size();
  view.x = left + width / 2;
  view.y = top + height / 2;
  view.scale = Math.min(across / (width * margin), down / (height * margin));
  redraw();
}

function showPlace(index) {
  const { width, height } = data.places[index];
  view.place = index;
  document.getElementById('place').value = String(index);
  showBox([0, 0, width, height], 1.04);
}

function zoom(factor, at = size().map((side) => side / 2)) {
  const [x, y] = toGrid(at);
  const scale = Math.min(64, Math.max(0.002, view.scale * factor));
  view.x = x + ((view.x - x) * view.scale) / scale;
  view.y = y + ((view.y - y) * view.scale) / scale;
  view.scale = scale;
  redraw();
}

function pan(x, y) {
  view.x -= x / view.scale;
  view.y -= y / view.scale;
  redraw();
}

function draw() {
  const [width, height] = size();
  const ratio = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.fillStyle = '#17191d';
  pen.fillRect(0, 0, width, height);
  if (view.way === 'swipe') drawSwipe(width, height);
  else if (view.way === 'blink') drawDate(view.holding ? 'before' : 'after', 1);
  else {
    drawDate('before', 1);
    drawDate('after', view.fade);
  }
  if (view.probability) drawProbability();
  if (view.outlines) drawOutlines();
  drawTool();
  drawLabels(width);
}

function drawSwipe(width, height) {
  const at = view.swipe * width;
  // Below the middle, where the change is.
  const middle = 0.85 * height;
  for (const [date, left, right] of [['before', 0, at], ['after', at, width]]) {
    pen.save();
    pen.beginPath();
    pen.rect(left, 0, right - left, height);
    pen.clip();
    drawDate(date, 1);
    pen.restore();
  }
  pen.fillStyle = '#ffffff';
  pen.fillRect(at - 1, 0, 2, height);
  pen.beginPath();
  pen.arc(at, middle, 13, 0, 2 * Math.PI);
  pen.fill();
  pen.fillStyle = '#17191d';
  for (const side of [-1, 1]) {
    pen.beginPath();
    pen.moveTo(at + side * 9, middle);
    pen.lineTo(at + side * 3, middle - 5);
    pen.lineTo(at + side * 3, middle + 5);
    pen.fill();
  }
}

function drawDate(date, alpha) {
  const place = data.places[view.place];
  const change = shownChange();
  pen.globalAlpha = alpha;
  drawPicture(place[date], [0, 0, place.width, place.height]);
  if (change && change.place === view.place) drawPicture(change[date], change.box);
  pen.globalAlpha = 1;
}

function drawPicture(source, [left, top, width, height]) {
  const image = source && picture(source);
  if (!image) return;
  const [x, y] = toScreen([left, top]);
  pen.imageSmoothingEnabled = (width / image.naturalWidth) * view.scale < 2;
  pen.drawImage(image, x, y, width * view.scale, height * view.scale);
}

function drawProbability() {
  const place = data.places[view.place];
  drawPicture(place.probability, [0, 0, place.width, place.height]);
}

function drawOutlines() {
  for (const entry of entries) {
    const { place, outline } = shapeOf(entry);
    if (place !== view.place || entry.repeat) continue;
    const isCurrent = entry.key === current || `${entry.key} again` === current;
    if (data.survey && !isCurrent) continue;
    // The cells of places without a change would cover the map with a grid.
    if (isCurrent ? tool : !entry.drawn && isStill(data.changes[entry.change])) continue;
    trace(outline);
    const verdict = entry.drawn ? 'missed' : verdictOf(entry.key).verdict ?? 'none';
    stroke(COLOURS[verdict], DASHES[verdict], isCurrent ? 3 : 1.5);
    if (isCurrent) drawBrackets(outline);
  }
}

// Corners around the current change, which may lie among many others.
function drawBrackets(outline) {
  const [left, top, width, height] = boundsOf(outline);
  const [x, y] = toScreen([left, top]).map((at) => at - 10);
  const [across, down] = [width * view.scale + 20, height * view.scale + 20];
  pen.beginPath();
  for (const [cornerX, cornerY, stepX, stepY] of [
    [x, y, 1, 1], [x + across, y, -1, 1], [x, y + down, 1, -1], [x + across, y + down, -1, -1],
  ]) {
    pen.moveTo(cornerX + stepX * 12, cornerY);
    pen.lineTo(cornerX, cornerY);
    pen.lineTo(cornerX, cornerY + stepY * 12);
  }
  stroke(COLOURS.missed, [], 2);
}

function trace(outline) {
  pen.beginPath();
  for (const ring of outline) {
    ring.forEach((point, index) => {
      const [x, y] = toScreen(point);
      if (index) pen.lineTo(x, y);
      else pen.moveTo(x, y);
    });
    pen.closePath();
  }
}

function stroke(colour, dash, width) {
  pen.lineJoin = 'round';
  pen.setLineDash([]);
  pen.strokeStyle = 'rgba(0, 0, 0, 0.6)';
  pen.lineWidth = width + 2;
  pen.stroke();
  pen.setLineDash(dash);
  pen.strokeStyle = colour;
  pen.lineWidth = width;
  pen.stroke();
  pen.setLineDash([]);
}

function drawLabels(width) {
  const { before, after } = data.places[view.place];
  const label = { before: before ? 'before' : 'before: no picture', after: after ? 'after' : 'after: no picture' };
  pen.font = '13px sans-serif';
  if (view.way === 'blink') drawLabel(view.holding ? label.before : label.after, 10, 'left');
  else if (view.way === 'fade') drawLabel(`${label.before}, ${Math.round(100 * view.fade)} % ${label.after}`, 10, 'left');
  else {
    drawLabel(label.before, 10, 'left');
    drawLabel(label.after, width - 10, 'right');
  }
}

function drawLabel(text, x, side) {
  const width = pen.measureText(text).width + 14;
  pen.fillStyle = 'rgba(0, 0, 0, 0.65)';
  pen.fillRect(side === 'left' ? x : x - width, 10, width, 24);
  pen.fillStyle = '#ffffff';
  pen.textAlign = side;
  pen.textBaseline = 'middle';
  pen.fillText(text, side === 'left' ? x + 7 : x - 7, 22);
}
