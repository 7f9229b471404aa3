// cloudevents: binary and structured in turn; the package does not repeat a request, so this does.
import { CloudEvent, HTTP } from 'cloudevents';
import { events, gateway, key } from './events.mjs';

async function post({ headers, body }) {
  const answer = await fetch(`${gateway}/api/events`, {
    method: 'POST',
    headers: { ...headers, 'x-api-key': key },
    body,
  }).catch((error) => error);
  if (answer.status === 422 || answer.status === 400) throw new Error(await answer.text());
  return answer.ok;
}

for (const [n, { id, user, post: object }] of events().entries()) {
  const event = new CloudEvent({ id, source: '/clients/js', type: 'like', subject: `post/${object}`, data: { userId: user } });
  const message = n % 2 ? HTTP.binary(event) : HTTP.structured(event);
  while (!(await post(message)));
}
