// The page opened from disk, whose origin the server does not admit: finds the running
// server and redirects to its copy of the page. A classic script, because browsers don't
// load modules from disk.
'use strict';

(() => {
  if (location.protocol !== 'file:') return;
  const RETRY = 2000;
  const TIMEOUT = 4000;
  const query = new URLSearchParams(location.search);
  const asked = Number(query.get('port') ?? 3100);
  const port = Number.isInteger(asked) && asked > 0 && asked < 65536 ? asked : 3100;
  // The address chooses the port only. The machine must be this one.
  const chat = new URL(`http://127.0.0.1:${port}/`);
  if (query.has('session')) chat.searchParams.set('session', query.get('session'));
  const byId = (id) => document.getElementById(id);

  byId('app').hidden = true;
  byId('from-disk').hidden = false;
  byId('from-disk-link').href = chat.href;
  byId('from-disk-link').textContent = chat.href;
  say(`Trying http://127.0.0.1:${port}/ …`);
  look();

  function say(text) {
    if (byId('from-disk-text').textContent !== text) byId('from-disk-text').textContent = text;
  }

  /** Returns `true` if a server answers with the icon. Of other origins only images can be loaded. */
  function probe() {
    return new Promise((resolve) => {
      const icon = new Image();
      const timer = setTimeout(() => resolve(false), TIMEOUT);
      icon.onload = icon.onerror = ({ type }) => {
        clearTimeout(timer);
        resolve(type === 'load');
      };
      icon.referrerPolicy = 'no-referrer';
      icon.src = `http://127.0.0.1:${port}/icon.svg?${Date.now()}`;
    });
  }

  async function look() {
    if (await probe()) return location.replace(chat);
    say(`No claude-socket answers at http://127.0.0.1:${port}/.`);
    byId('from-disk-help').hidden = false;
    setTimeout(look, RETRY);
  }
})();
