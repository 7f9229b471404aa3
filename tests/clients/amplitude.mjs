// @amplitude/analytics-node
import { init, track } from '@amplitude/analytics-node';
import { events, gateway, key } from './events.mjs';

await init(key, {
  serverUrl: `${gateway}/2/httpapi`,
  flushQueueSize: 8,
  flushIntervalMillis: 100,
  flushMaxRetries: 10,
}).promise;
const sent = events().map(
  ({ id, user, post }) => track('like', { postId: post }, { user_id: user, insert_id: id, time: Date.now() }).promise,
);
await Promise.all(sent);
