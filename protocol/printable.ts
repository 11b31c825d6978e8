/** Text from elsewhere, made harmless for a terminal and for a line of a log. */

/**
 * What moves, colours, retitles or reorders a terminal, ends a line, or hides text in text: controls (C0, DEL, C1),
 * halves of characters, line and paragraph separators, the marks that change the direction of text, the deprecated
 * format characters, annotations, and tags.
 */
const STEERING =
  "\\p{Cc}\\p{Cs}\\p{Zl}\\p{Zp}\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u206f\\ufff9-\\ufffb\\u{e0000}-\\u{e007f}";
/** Joins what stands before it to what follows: part of emoji, and of how Persian or Hindi is written. */
const JOINING = "[\\u200c\\u200d\\ufe00-\\ufe0f]";

/** Nor anything that nobody can see: two names that look alike are to be the same. */
const NOT_IN_A_LINE = new RegExp(
  `[${STEERING}[\\p{Default_Ignorable_Code_Point}--${JOINING}]]|` +
    // A joiner has something to join only after a character that is not of ASCII. 1️⃣ is written with one all the same.
    `(?<=^|[\\p{ASCII}${STEERING}[\\p{Default_Ignorable_Code_Point}--${JOINING}]])(?!\\ufe0f\\u20e3)${JOINING}+`,
  "gv",
);
const NOT_IN_A_TEXT = new RegExp(`(?![\\n\\t])[${STEERING}]`, "gv");

/**
 * `text` as part of one line: names, messages, JSON. Everything else is escaped as JSON escapes it, so that JSON stays
 * the same JSON. Escaping twice changes nothing.
 */
export function printable(text: string): string {
  return text.replace(NOT_IN_A_LINE, escaped);
}

/**
 * `text` of several lines in somebody's language: an answer. Line feeds, tabs and what cannot be seen but belongs to a
 * language stay; each other character of those above becomes U+FFFD.
 */
export function printableText(text: string): string {
  return text.replaceAll("\r\n", "\n").replace(NOT_IN_A_TEXT, "\ufffd");
}

function escaped(chars: string): string {
  return chars.split("").map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`).join("");
}
