// @segment/analytics-node
import { Analytics } from '@segment/analytics-node';
import { end, events, gateway, key } from './events.mjs';

const analytics = new Analytics({ writeKey: key, host: gateway, flushAt: 8, flushInterval: 100 });
analytics.on('error', (error) => console.error(error));
for (const { id, user, post } of events()) {
  analytics.track({ userId: user, event: 'like', messageId: id, properties: { postId: post } });
}
await end(analytics.closeAndFlush({ timeout: 60_000 }));
