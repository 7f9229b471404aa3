-- Which key took the place of another: that one is in force only until its overlap ends.

alter table api_keys
    add column replaced_by  uuid references api_keys (id);
