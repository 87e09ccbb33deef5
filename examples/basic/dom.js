// Elements and browser storage. Text is always set as text: nothing here, and nothing that
// uses it, must parse HTML.

export const byId = (id) => document.getElementById(id);

/**
 * Creates an element.
 * @param {string} tag
 * @param {Record<string, unknown>} [attributes] functions become listeners; undefined and false are left out
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

/** Sets an element's text if it differs. Screen readers read out every set, also of the same text. */
export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

/** Returns `true` on a touch screen. There Enter breaks the line, and focus opens a keyboard. */
export const isTouch = () => matchMedia('(hover: none) and (pointer: coarse)').matches;

/** Storage of this tab, and of this browser. Where the browser forbids it, nothing is stored. */
export const tab = storage(() => sessionStorage);
export const browser = storage(() => localStorage);

function storage(area) {
  return {
    get(key) {
      try {
        return area().getItem(`claude-socket.${key}`);
      } catch {
        return null;
      }
    },
    set(key, value) {
      try {
        if (value) area().setItem(`claude-socket.${key}`, value);
        else area().removeItem(`claude-socket.${key}`);
      } catch {
        // Storage is full, or forbidden.
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
