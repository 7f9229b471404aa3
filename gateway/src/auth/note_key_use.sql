-- Notes when keys were last used; several gateways may report, the latest stays.
update api_keys
   set last_used_at = greatest(api_keys.last_used_at, used.at)
  from unnest($1::uuid[], $2::timestamptz[]) as used (id, at)
 where api_keys.id = used.id;
