// @amplitude/analytics-node
import { init, track } from '@amplitude/analytics-node';
import { end, events, gateway, key } from './events.mjs';

await init(key, {
  serverUrl: `${gateway}/2/httpapi`,
  flushQueueSize: 8,
  flushIntervalMillis: 100,
  flushMaxRetries: 10,
}).promise;
const send = ({ id, user, post }) =>
  track('like', { postId: post }, { user_id: user, insert_id: id, time: Date.now() }).promise;

async function all() {
  const likes = events();
  // Of two with one id in its queue the SDK settles only the first.
  await Promise.all(likes.slice(0, 20).map(send));
  await Promise.all(likes.slice(20).map(send));
}
await end(all());
