// Shows texts of others so that they can't pass for something else.

/** Reserved for Claude's own messages. */
const CLAUDE = 'claude';
/** Enough empty lines to push the rest of a text out of sight. */
const EMPTY_LINES = /\n(?:[ \t]*\n){3,}/g;
/**
 * Characters that show nothing or reorder the text (UAX #9), joiners and tag characters among them.
 * Line breaks, tabs and the variation selector of emoji stay.
 */
const INVISIBLE = /(?![\t\n\ufe0f])[\p{Cc}\p{Cf}\p{Default_Ignorable_Code_Point}\u2028\u2029\u2800]/gu;

/** Writes invisible characters out, as ⟨U+202E⟩. */
export function visible(text) {
  return String(text).replace(
    INVISIBLE,
    (character) => `⟨U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, '0')}⟩`,
  );
}

/** Writes invisible characters and long runs of empty lines out. */
export function visibleLines(text) {
  return visible(text).replace(EMPTY_LINES, (lines) => `\n⟨${lines.split('\n').length - 2} empty lines⟩\n`);
}

/** Returns a person's name for display, marked if it is Claude's. */
export function nameOf(user) {
  const name = visible(user || 'user');
  return name.trim().toLowerCase() === CLAUDE ? `${name} (a user)` : name;
}
