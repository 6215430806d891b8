// Draws a tide table as a smooth curve on a canvas: between high and low water the sea follows half a cosine.
export function heightAt(time, before, after) {
  const share = (time - before.time) / (after.time - before.time);
  const middle = (before.metres + after.metres) / 2;
  const swing = (before.metres - after.metres) / 2;
  return middle + swing * Math.cos(Math.PI * share);
}

export function drawTides(canvas, turns, highest) {
  const pen = canvas.getContext("2d");
  const first = turns[0].time;
  const span = turns.at(-1).time - first;
  pen.beginPath();
  for (let x = 0; x <= canvas.width; x += 1) {
    const time = first + (span * x) / canvas.width;
    const index = Math.max(1, turns.findIndex((turn) => turn.time >= time));
    const metres = heightAt(time, turns[index - 1], turns[index]);
    pen.lineTo(x, canvas.height * (1 - metres / highest));
  }
  pen.stroke();
}
