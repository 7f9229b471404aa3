// What every client here sends: twenty likes, five of them once more. Prints the id of each.
import { randomUUID } from 'node:crypto';

export const gateway = process.env.GATEWAY_URL;
export const key = process.env.WRITE_KEY;

export function events() {
  const likes = Array.from({ length: 20 }, (_, n) => ({ id: randomUUID(), user: `u${n % 7}`, post: `p${n % 3}` }));
  for (const like of likes) console.log(like.id);
  return [...likes, ...likes.slice(0, 5)];
}

// Waits for the SDK: its timers alone keep no process alive, and some of them outlive its work.
export async function end(work) {
  const alive = setInterval(() => {}, 1_000);
  await work;
  clearInterval(alive);
  process.exit(0);
}
