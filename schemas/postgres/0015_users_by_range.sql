-- Users are numbered in order and looked up by number only many at a time: an index of ranges tells as much as
-- one of each user, and costs next to nothing where a user is new.
alter table users drop constraint users_pkey;
alter table users drop constraint users_id_key, add primary key (id);
create index users_no on users using brin (no) with (autosummarize = on);
