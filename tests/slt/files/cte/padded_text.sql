# text that ends in spaces compares, groups and counts as text that does not, wherever it comes from
create table t (id int primary key, s varchar(20));
insert into t values (1, 'ab cd'), (2, 'ab'), (3, 'x y');
select a.id from t a join t b on cast(a.s as char(3)) = b.s order by a.id;
with v as (select id, cast(s as char(3)) as k from t) select a.id, b.id from v a join v b on a.k = b.k order by a.id, b.id;
with v as (select id, case when id = 1 then 'ab ' else s end as k from t) select a.id, b.id from v a join v b on a.k = b.k order by a.id, b.id;
with v as (select concat(s, ' ') as k from t union all select s from t) select count(distinct k), (select count(*) from v w join t on t.s = w.k) from v;
with v as (select s, count(*) over (partition by left(s, 3)) as n from t), w as (select s as k, n from v union select concat(s, ' '), n from v) select count(*), sum(a.n) from w a join w b on a.k = b.k;
create table b (id int primary key, c varbinary(4));
insert into b values (1, 'z '), (2, 'z'), (3, null);
with v as (select cast(coalesce(c, 'z ') as char) as k from b) select count(*) from v group by k;
