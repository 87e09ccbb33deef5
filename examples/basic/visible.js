// Texts of others, shown so that they can't look like something else.

/** Whose name only Claude's own words carry. */
const CLAUDE = 'claude';
/** This many empty lines in a row could push the end of a text out of sight. */
const EMPTY_LINES = /\n(?:[ \t]*\n){3,}/g;
/** What shows nothing, or changes the order of what is read; but for line breaks, tabs and what emoji need. */
const UNSEEN = /(?![\t\n\ufe0f])[\p{Cc}\p{Cf}\p{Default_Ignorable_Code_Point}\u2028\u2029\u2800]/gu;

/** Shows what would be invisible. */
export function visible(text) {
  return String(text).replace(
    UNSEEN,
    (character) => `⟨U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, '0')}⟩`,
  );
}

/** The same for a text of several lines, of which no part may hide below the others. */
export function visibleLines(text) {
  return visible(text).replace(EMPTY_LINES, (lines) => `\n⟨${lines.split('\n').length - 2} empty lines⟩\n`);
}

/** A person's name. */
export function nameOf(user) {
  const name = visible(user || 'user');
  return name.trim().toLowerCase() === CLAUDE ? `${name} (a user)` : name;
}
