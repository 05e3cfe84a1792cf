'use strict';

// Places of pixels on Earth, and sizes of outlines. Points are [column, row] of the map's grid.

function chebyshev(x, count) {
  const values = [1, x];
  while (values.length < count) values.push(2 * x * values.at(-1) - values.at(-2));
  return values.slice(0, count);
}

function toDegrees(place, [column, row]) {
  const { size, longitude, latitude } = place.degrees;
  const across = chebyshev((2 * column) / place.width - 1, size);
  const down = chebyshev((2 * row) / place.height - 1, size);
  let east = 0, north = 0;
  for (let i = 0, k = 0; i < size; i++) {
    for (let j = 0; j < size; j++, k++) {
      const weight = across[i] * down[j];
      east += longitude[k] * weight;
      north += latitude[k] * weight;
    }
  }
  return [east, north];
}

function turned(degrees) {
  return degrees - 360 * Math.round(degrees / 360);
}

// Coordinates of a point in the file of decisions: degrees, or pixels where the map has no CRS.
function toFile(place, point) {
  if (!place.degrees) return point.map((value) => Math.round(value * 1000) / 1000);
  const [east, north] = toDegrees(place, point);
  return [turned(east), north].map((value) => Math.round(value * 1e9) / 1e9);
}

// The point of some coordinates in the file of decisions, by Newton's method.
function fromFile(place, [x, y]) {
  if (!place.degrees) return [x, y];
  let point = [place.width / 2, place.height / 2];
  for (let round = 0; round < 30; round++) {
    const [east, north] = toDegrees(place, point);
    const [right, down] = [[point[0] + 0.5, point[1]], [point[0], point[1] + 0.5]]
      .map((near) => toDegrees(place, near))
      .map(([nearEast, nearNorth]) => [2 * (nearEast - east), 2 * (nearNorth - north)]);
    const [missingEast, missingNorth] = [turned(x - east), y - north];
    const determinant = right[0] * down[1] - down[0] * right[1];
    const step = [
      (missingEast * down[1] - down[0] * missingNorth) / determinant,
      (right[0] * missingNorth - missingEast * right[1]) / determinant,
    ];
    point = [point[0] + step[0], point[1] + step[1]];
    if (Math.hypot(...step) < 1e-5) break;
  }
  return point;
}

function signedArea(ring) {
  let sum = 0;
  ring.forEach(([x, y], index) => {
    const [nextX, nextY] = ring[(index + 1) % ring.length];
    sum += x * nextY - nextX * y;
  });
  return sum / 2;
}

// Closed rings as GeoJSON wants them: the outer one counterclockwise, holes clockwise (RFC 7946).
function toCoordinates(place, outline) {
  return outline.map((ring, index) => {
    const points = ring.map((point) => toFile(place, point));
    if (signedArea(points) > 0 !== (index === 0)) points.reverse();
    return [...points, points[0]];
  });
}

function distanceToEdge([x, y], [fromX, fromY], [toX, toY]) {
  const [alongX, alongY] = [toX - fromX, toY - fromY];
  const length = alongX ** 2 + alongY ** 2 || 1;
  const share = Math.min(1, Math.max(0, ((x - fromX) * alongX + (y - fromY) * alongY) / length));
  return Math.hypot(x - fromX - share * alongX, y - fromY - share * alongY);
}

// Fewer points of a ring: none moves the line by more than the tolerance (Douglas and Peucker).
function simplified(ring, tolerance) {
  if (ring.length <= 4) return ring;
  const far = ring.reduce((best, [x, y], index) => {
    const distance = Math.hypot(x - ring[0][0], y - ring[0][1]);
    return distance > best[0] ? [distance, index] : best;
  }, [0, 1])[1];
  const halves = [ring.slice(0, far + 1), [...ring.slice(far), ring[0]]];
  const kept = halves.flatMap((line) => simplifiedLine(line, tolerance).slice(0, -1));
  return kept.length >= 3 ? kept : ring;
}

function simplifiedLine(line, tolerance) {
  if (line.length < 3) return line;
  let [farthest, split] = [0, 0];
  for (let index = 1; index < line.length - 1; index++) {
    const distance = distanceToEdge(line[index], line[0], line.at(-1));
    if (distance > farthest) [farthest, split] = [distance, index];
  }
  if (farthest <= tolerance) return [line[0], line.at(-1)];
  return [
    ...simplifiedLine(line.slice(0, split + 1), tolerance).slice(0, -1),
    ...simplifiedLine(line.slice(split), tolerance),
  ];
}

function boundsOf(outline) {
  const [xs, ys] = [0, 1].map((axis) => outline[0].map((point) => point[axis]));
  const [left, top] = [Math.min(...xs), Math.min(...ys)];
  return [left, top, Math.max(...xs) - left, Math.max(...ys) - top];
}
