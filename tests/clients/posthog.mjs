// posthog-node
import { PostHog } from 'posthog-node';
import { end, events, gateway, key } from './events.mjs';

const client = new PostHog(key, { host: gateway, flushAt: 8, flushInterval: 100, fetchRetryDelay: 100, disableRemoteConfig: true });
client.on('error', (error) => console.error(error));
for (const { id, user, post } of events()) {
  client.capture({ distinctId: user, event: 'like', uuid: id, properties: { postId: post } });
}
await end(client.shutdown(60_000));
