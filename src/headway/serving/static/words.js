// Words, numbers and elements of the page, none of which knows what is going on.
export const plural = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : word.endsWith("s") ? "es" : "s"}`;
export const listed = (words) => (words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} or ${words.at(-1)}`);
export const round1 = (value) => String(Math.round(value * 10) / 10);
// Marks that turn the direction of what follows would let a name rewrite the text behind it.
export const shown = (text) => text.replace(/[\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, "");
export const inBytes = (n) => (n >= 1e6 ? `${round1(n / 1e6)} MB` : n >= 1e3 ? `${round1(n / 1e3)} kB` : `${n} bytes`);

export function percent(share) {
  if (share >= 0.995) return share >= 1 ? "100 %" : "over 99 %";
  return share < 0.005 ? "under 1 %" : `${Math.round(share * 100)} %`;
}

export function make(tag, kind, text) {
  const element = document.createElement(tag);
  if (kind) element.className = kind;
  if (text !== undefined) element.textContent = text;
  return element;
}

export function name(text) {
  return make("bdi", "", shown(text));
}
