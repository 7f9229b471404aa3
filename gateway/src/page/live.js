// A stream that stays: connects again after every end, from where it was, and says how it stands.

import { socket } from "./api.js";

const PAUSE_MS = [500, 1000, 2000, 4000];

/** `told(message)` for each message, `stands(isLive)` for each change; returns what ends it. */
export function listen(path, parameters, told, stands) {
  let cursor, connection, timer, failures = 0, isOver = false;

  const connect = () => {
    connection = socket(path, cursor ? { ...parameters, cursor } : parameters);
    connection.onopen = () => {
      failures = 0;
      stands(true);
    };
    connection.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      cursor = message.cursor ?? cursor;
      if (!message.control) told(message);
    };
    connection.onclose = () => {
      if (isOver) return;
      stands(false);
      const pause = PAUSE_MS[Math.min(failures++, PAUSE_MS.length - 1)];
      timer = setTimeout(connect, pause * (0.75 + Math.random() / 2));
    };
  };

  connect();
  return () => {
    isOver = true;
    clearTimeout(timer);
    connection.close();
  };
}
