// @rudderstack/rudder-sdk-node
import RudderAnalytics from '@rudderstack/rudder-sdk-node';
import { end, events, gateway, key } from './events.mjs';

const client = new RudderAnalytics(key, {
  dataPlaneUrl: gateway,
  flushAt: 8,
  flushInterval: 100,
  errorHandler: (error) => console.error(error.message),
});
const sent = events().map(
  ({ id, user, post }) =>
    new Promise((done) => {
      client.track({ userId: user, event: 'like', messageId: id, properties: { postId: post } }, done);
    }),
);
await end(Promise.all(sent));
