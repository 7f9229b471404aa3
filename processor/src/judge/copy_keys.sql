-- Claims keys believed to be new, in key order; a unique violation means that one was not.
copy event_keys (event_key, stored_on) from stdin (format binary)
