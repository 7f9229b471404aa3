// Puts the panels together: what each is fed from, how often, and what they do while the gateway is away.

import { activity } from "./activity.js";
import { byId } from "./dom.js";
import { events } from "./events.js";
import { figures } from "./figures.js";
import { keyForm, state } from "./key.js";
import { letters } from "./letters.js";
import { listen } from "./live.js";
import { notifications } from "./notifications.js";
import { pipeline } from "./pipeline.js";
import { send } from "./send.js";
import { top } from "./top.js";
import { users } from "./users.js";

const endings = [];

/** Asks now and then again and again, while somebody looks; a failure is tried again like anything else. */
function every(ms, ask) {
  let timer, isOver = false;
  const turn = async () => {
    try {
      if (!document.hidden) await ask();
    } catch (error) {
      // The sockets say that the gateway is away; anything else is a fault of ours.
      if (!(error instanceof TypeError) && !error.status) console.error(error);
    }
    if (!isOver) timer = setTimeout(turn, ms);
  };
  turn();
  endings.push(() => {
    isOver = true;
    clearTimeout(timer);
  });
}

/** One line for all streams: live when each is; `missed` asks for what came while they were away. */
function streams(missed, ...all) {
  const live = new Set();
  for (const [path, parameters, told] of all) {
    endings.push(listen(path, parameters, told, (isLive) => {
      if (isLive) live.add(told);
      else live.delete(told);
      if (isLive && live.size === all.length) missed();
      if (live.size === all.length) state("live", "Live");
      else state("waiting", isLive ? "Connecting" : "Reconnecting");
    }));
  }
}

function opened(rights) {
  byId("welcome").hidden = true;
  byId("panels").hidden = false;
  const form = send(rights);
  if (!rights.read) {
    state("refused", "Cannot read");
    return;
  }
  const [list, rejected, alerts] = [events(), letters(rights), notifications()];
  const [tiles, lag, people] = [figures(), pipeline(), users()];
  const chart = activity();
  // A stream that has told nothing yet has no cursor to go on from.
  const missed = () => Promise.all([list.past(), rejected.past()]).catch(() => {});
  streams(
    missed,
    ["/api/events/live", {}, (event) => {
      list.stored(event);
      form.relayed(event);
    }],
    ["/api/events/live", { verdict: "rejected" }, (letter) => {
      list.rejected(letter);
      rejected.came(letter);
    }],
    ["/api/notifications/ws", {}, (notification) => {
      alerts.came(notification);
      form.notified(notification);
    }],
  );
  every(1000, async () => {
    const report = await lag.ask();
    tiles.pipeline(report);
  });
  every(2000, top());
  every(5000, chart.ask);
  every(10_000, async () => tiles.users(await people.ask()));
  every(1000, () => [list, rejected, alerts].forEach((it) => it.age()));
}

function closed() {
  while (endings.length) endings.pop()();
  location.reload();
}

keyForm(opened, closed);
