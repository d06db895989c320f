-- A mask that lets a whole value through would show it to every analyst.
select contact_id
from {{ ref('contacts_for_analysts') }}
where
    email_masked !~ '^.?\*\*\*@'
    or phone_masked !~ '^\*\*\*.{0,3}$'
    or first_name_initial !~ '^.{0,3}\.$'
    or last_name_initial !~ '^.{0,3}\.$'
