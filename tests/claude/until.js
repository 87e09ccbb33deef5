// Waiting for what a test expects.

import { setTimeout as pause } from 'node:timers/promises';

/** Milliseconds after which a wait fails. Machines can be slow. */
export const LIMIT = 30_000;
/** Milliseconds between two looks. */
const LOOK = 50;

/**
 * Looks until something is there, and returns it.
 * @template T
 * @param {string} what what is expected, for the failure
 * @param {() => T} look
 * @param {number} [interval] milliseconds between two looks
 * @returns {Promise<NonNullable<Awaited<T>>>}
 */
export async function until(what, look, interval = LOOK) {
  for (const end = Date.now() + LIMIT; Date.now() < end; await pause(interval)) {
    const found = await look();
    if (found) return found;
  }
  throw new Error(`it never came: ${what}`);
}
