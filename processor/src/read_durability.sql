-- The settings without which a commit is not one.
select current_setting('fsync'), current_setting('synchronous_commit')
