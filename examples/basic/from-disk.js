// The page opened from disk. From there no server can be trusted to be talked to, so
// this finds the running one and sends the visitor on to its own copy of the page.
// A classic script, because browsers don't load modules from disk.
'use strict';

(() => {
  if (location.protocol !== 'file:') return;
  const RETRY = 2000;
  const PATIENCE = 4000;
  const query = new URLSearchParams(location.search);
  const asked = Number(query.get('port') ?? 3100);
  const port = Number.isInteger(asked) && asked > 0 && asked < 65536 ? asked : 3100;
  // The port is the visitor's choice. The machine is always this one.
  const chat = new URL(`http://127.0.0.1:${port}/`);
  if (query.has('session')) chat.searchParams.set('session', query.get('session'));
  const part = (id) => document.getElementById(id);

  part('app').hidden = true;
  part('from-disk').hidden = false;
  part('from-disk-link').href = chat.href;
  part('from-disk-link').textContent = chat.href;
  say(`Trying http://127.0.0.1:${port}/ …`);
  look();

  function say(text) {
    if (part('from-disk-text').textContent !== text) part('from-disk-text').textContent = text;
  }

  /** Whether a server with this page's icon answers. The answer to anything else can't be read from here. */
  function probe() {
    return new Promise((resolve) => {
      const icon = new Image();
      const timer = setTimeout(() => resolve(false), PATIENCE);
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
    part('from-disk-help').hidden = false;
    setTimeout(look, RETRY);
  }
})();
