// Making and finding elements, and what a browser keeps for the page. Text always
// becomes text: nothing here, and nothing that uses it, parses HTML.

/** The element with this id. */
export const part = (id) => document.getElementById(id);

/**
 * Makes an element.
 * @param {string} tag
 * @param {Record<string, unknown>} [attributes] functions are listeners; undefined and false leave one out
 * @param {...(Node | string)} children
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') made.addEventListener(name, value);
    else if (value === true) made.setAttribute(name, '');
    else if (value !== undefined && value !== false) made.setAttribute(name, String(value));
  }
  made.append(...children);
  return made;
}

/** Sets an element's text, if it changes: what is set again is read out again. */
export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

/** Whether someone types with a finger. Then Enter breaks the line, and focus opens a keyboard. */
export const isTouch = () => matchMedia('(hover: none) and (pointer: coarse)').matches;

/** What is kept in this tab, or in this browser. A browser may keep nothing: then it is forgotten. */
export const tab = keeper(() => sessionStorage);
export const browser = keeper(() => localStorage);

function keeper(storage) {
  return {
    get(key) {
      try {
        return storage().getItem(`claude-socket.${key}`);
      } catch {
        return null;
      }
    },
    set(key, value) {
      try {
        if (value) storage().setItem(`claude-socket.${key}`, value);
        else storage().removeItem(`claude-socket.${key}`);
      } catch {
        // It is full, or forbidden.
      }
    },
    list(key) {
      try {
        const list = JSON.parse(this.get(key) ?? '[]');
        return Array.isArray(list) ? list : [];
      } catch {
        return [];
      }
    },
  };
}
