// Calls the function once, after a quiet time in which it was not called again: for search boxes and resizing.
export function debounce(action, quietMilliseconds) {
  let timer = null;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...values), quietMilliseconds);
  };
}
